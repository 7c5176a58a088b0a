"""One room: joining, editing, refusing, asking for causes, leaving memory, and two nodes on one log."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pycrdt import Text

from crdt.document import Verdict
from crdt.errors import MalformedStateVector, MalformedUpdate
from crdt.updates import EMPTY_UPDATE
from server.bus.local import LocalBus
from sync.protocol.messages import SyncStep1, SyncStep2, SyncUpdate
from sync.rooms.errors import (
    DocumentTooLarge,
    DocumentUnreadable,
    LineageDiffers,
    PeerIncoherent,
    RoomError,
    StoreUnavailable,
    UpdateTooLarge,
)
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import MAX_CAUSELESS, Grant
from sync.rooms.ports import Stored
from tests.sync.rooms.kit import PATIENCE, QUICK, Client, Node, edits, node, text_of

SHORT_LIVED = RoomLimits(poll_interval=0.02, idle_after=0.0)


async def unloaded(here: Node, document: str = "d") -> None:
    """Return when the document has left memory."""
    room = here.rooms.open(document)
    async with asyncio.timeout(PATIENCE):
        while not room.resting:
            await asyncio.sleep(0.02)


async def test_a_peer_is_asked_first_then_answered_and_hears_nothing_before(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer = await here.client()
        quiet = Client(here.rooms.open("d"))
        here.rooms.open("d").join(quiet.peer)
        update = writer.edit("a")
        writer.send(update)
        await writer.acknowledged(update)
        assert [type(message) for message in quiet.outlet.messages] == [SyncStep1]
        here.rooms.open("d").sync_step1(quiet.peer, b"\x00")
        await quiet.outlet.until(lambda outlet: outlet.of(SyncStep2))
        assert quiet.text == "a"
        assert [type(message) for message in writer.outlet.messages] == [SyncStep1, SyncStep2, SyncUpdate]


async def test_edits_reach_readers_at_once_and_the_author_as_an_echo(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer, reader = await here.client(), await here.client()
        updates = [writer.edit(text) for text in "abc"]
        writer.send(*updates)
        await reader.outlet.until(lambda outlet: len(outlet.updates) == 3)
        assert len(reader.outlet.writes) == 3  # the question, the answer, and a turn's edits together
        await writer.outlet.until(lambda outlet: outlet.updates == updates)
        assert await here.stored_text() == reader.text == "abc"


async def test_a_bad_update_ends_its_sender_alone_and_leaves_no_trace(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        bad, good = await here.client(), await here.client()
        update = good.edit("a")
        bad.send(b"\x01\xff\xff")
        good.send(update)
        await good.acknowledged(update)
        assert [type(error) for error in bad.outlet.errors] == [MalformedUpdate]
        assert good.outlet.errors == []
        assert await here.stored_text() == "a"


async def test_a_reader_is_refused_an_edit_and_may_repeat_what_is_known(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer, reader = await here.client(), await here.client(can_write=False)
        known = writer.edit("a")
        writer.send(known)
        await writer.acknowledged(known)
        forbidden = reader.edit("b")
        reader.send(forbidden, known, EMPTY_UPDATE)
        await reader.acknowledged(EMPTY_UPDATE)
        assert known in reader.outlet.updates[1:]
        assert forbidden not in reader.outlet.updates
        assert reader.outlet.errors == []
        assert await here.stored_text() == "a"


async def test_a_readers_deletions_are_looked_up_once_for_each_time_that_it_is_asked(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer, reader = await here.client(), await here.client(can_write=False)
        writer.edit("ab")
        del writer.doc.get("text", type=Text)[0:1]
        everything = writer.doc.get_update()
        writer.send(everything)
        await writer.acknowledged(everything)
        for _ in range(3):
            writer.room.receive(reader.peer, everything, whole=True)
        reader.send(EMPTY_UPDATE)
        await reader.acknowledged(EMPTY_UPDATE)
        # What the writer wrote, and one acknowledgement.
        assert reader.outlet.updates.count(everything) == 2
        assert reader.outlet.errors == []


async def test_an_edit_counts_as_what_its_peer_was_granted_when_it_came(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        here.store.loads.clear()
        room = here.rooms.open("d")
        client = Client(room, author="ada")
        room.join(client.peer)
        grants = [Grant("ada", "laptop", True), Grant("bob", "phone", True), Grant("eve", "", False), Grant("ada", "", True)]
        sent = [client.edit(letter) for letter in "abcd"]
        for grant, update in zip(grants, sent, strict=True):
            client.peer.grant = grant
            client.send(update)
        here.store.loads.set()
        await client.acknowledged(sent[0], sent[1])
        await here.rooms.settle()
        by = [(entry.author, entry.device, entry.update) for entry in await here.log()]
        assert by == [("ada", "laptop", sent[0]), ("bob", "phone", sent[1])], "d lacks its cause, which eve might not write"


async def test_limits_of_update_and_document_are_kept(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(update_bytes=100, document_bytes=300)) as here:
        large, filling = await here.client(), await here.client()
        large.send(large.edit("x" * 101))
        await large.outlet.until(lambda outlet: outlet.errors)
        assert [type(error) for error in large.outlet.errors] == [UpdateTooLarge]
        filling.send(*[filling.edit("x" * 50) for _ in range(8)])
        await filling.outlet.until(lambda outlet: outlet.errors)
        assert {type(error) for error in filling.outlet.errors} == {DocumentTooLarge}
        await here.rooms.settle()
        assert 0 < len(await here.stored_text()) <= 300


async def test_missing_causes_are_asked_for_once_and_the_acknowledgements_come_with_the_answer(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client = await here.client()
        room = here.rooms.open("d")
        lost, second, third = client.edit("a"), client.edit("b"), client.edit("c")
        client.send(second)
        await client.outlet.until(lambda outlet: len(outlet.of(SyncStep1)) == 2)
        client.send(third)
        stranger = edits("z")[0]
        client.send(stranger)
        await client.acknowledged(stranger)
        assert client.outlet.updates == [stranger], "what is not in the document was acknowledged"
        answer = client.doc.get_update(client.outlet.of(SyncStep1)[1].state_vector)
        room.receive(client.peer, answer, whole=True)
        await client.outlet.until(lambda outlet: len(outlet.updates) == 4)
        assert client.outlet.updates == [stranger, answer, EMPTY_UPDATE, EMPTY_UPDATE]
        assert len(client.outlet.of(SyncStep1)) == 2
        assert sorted(await here.stored_text()) == ["a", "b", "c", "z"]
        assert lost not in client.outlet.updates


async def test_causes_that_another_brings_are_noticed_and_the_rest_is_asked_for_again(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        behind, other = await here.client(), await here.client()
        lost, second = edits("a", "b")
        behind.send(second)
        await behind.outlet.until(lambda outlet: len(outlet.of(SyncStep1)) == 2)
        behind.room.receive(behind.peer, second, whole=True)
        unrelated = other.edit("z")
        other.send(unrelated)
        await other.acknowledged(unrelated)
        assert len(behind.outlet.of(SyncStep1)) == 2, "it was asked again though what it waits for did not come"
        other.send(lost)
        await behind.outlet.until(lambda outlet: len(outlet.of(SyncStep1)) == 3)
        behind.room.receive(behind.peer, second, whole=True)
        await behind.outlet.until(lambda outlet: outlet.updates.count(EMPTY_UPDATE) == 2)
        assert second in behind.outlet.updates
        assert sorted(await here.stored_text()) == ["a", "b", "z"]


@pytest.mark.parametrize("way", ["push", "other node"])
async def test_causes_may_come_by_push_or_from_another_node(tmp_path: Path, way: str) -> None:
    hub = LocalBus()
    async with node(tmp_path, bus=hub.connect()) as here, node(tmp_path, bus=hub.connect()) as there:
        behind = await here.client()
        lost, second = edits("a", "b")
        behind.send(second)
        await behind.outlet.until(lambda outlet: len(outlet.of(SyncStep1)) == 2)
        await (here if way == "push" else there).rooms.open("d").push([lost], "", "", [None])
        await behind.outlet.until(lambda outlet: len(outlet.of(SyncStep1)) == 3)


async def test_causes_that_come_in_the_same_turn_are_asked_for_once(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        behind, other = await here.client(), await here.client()
        lost, second = edits("a", "b")
        behind.send(second)
        other.send(lost)
        await other.acknowledged(lost)
        assert len(behind.outlet.of(SyncStep1)) == 2


async def test_a_peer_that_never_delivers_causes_is_sent_away(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client = await here.client()
        client.edit("lost")
        client.send(*[client.edit("x")] * (MAX_CAUSELESS + 1))
        await client.outlet.until(lambda outlet: outlet.errors)
        assert [type(error) for error in client.outlet.errors] == [PeerIncoherent]
        assert len(client.outlet.of(SyncStep1)) == 2


async def test_two_step_ones_in_one_turn_are_answered_and_harm_nobody(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client, other = await here.client(), await here.client()
        room = here.rooms.open("d")
        for _ in range(3):
            room.sync_step1(client.peer, b"\x00")
        update = other.edit("a")
        other.send(update)
        await other.acknowledged(update)
        assert client.outlet.errors == other.outlet.errors == []
        assert client.text == "a"


async def test_a_malformed_state_vector_ends_its_sender_alone(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        other, client = await here.client(), Client(here.rooms.open("d"))
        here.rooms.open("d").join(client.peer)
        here.rooms.open("d").sync_step1(client.peer, b"\xff")
        await client.outlet.until(lambda outlet: outlet.errors)
        assert [type(error) for error in client.outlet.errors] == [MalformedStateVector]
        assert other.outlet.errors == []


async def test_a_slow_peer_gets_one_merged_diff_of_what_it_missed(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(backlog_bytes=10)) as here:
        writer, slow = await here.client(), await here.client()
        slow.outlet.stuck = 11
        updates = [writer.edit(text) for text in "abcdef"]
        for update in updates:
            writer.send(update)
            await writer.acknowledged(update)
        assert slow.outlet.updates == updates[:1]
        slow.outlet.stuck = 0
        await slow.outlet.until(lambda outlet: len(outlet.of(SyncStep2)) == 2)
        assert slow.text == "abcdef"
        last = writer.edit("g")
        writer.send(last)
        await slow.outlet.until(lambda outlet: last in outlet.updates)


async def test_a_document_leaves_memory_and_comes_back_and_its_readers_stay(tmp_path: Path) -> None:
    async with node(tmp_path, SHORT_LIVED) as here:
        writer, reader = await here.client(), await here.client()
        first = writer.edit("a")
        writer.send(first)
        await writer.acknowledged(first)
        await unloaded(here)
        second = writer.edit("b")
        writer.send(second)
        await writer.acknowledged(second)
        await reader.outlet.until(lambda outlet: outlet.updates == [first, second])
        await unloaded(here)
        late = await here.client()
        assert late.text == "ab"
        assert reader.outlet.errors == []


async def test_who_is_in_a_room_whose_document_left_memory_waits_for_a_store_that_is_away(tmp_path: Path) -> None:
    async with node(tmp_path, SHORT_LIVED) as here:
        writer = await here.client()
        first = writer.edit("a")
        writer.send(first)
        await writer.acknowledged(first)
        await unloaded(here)
        here.store.away = True
        second = writer.edit("b")
        writer.send(second)
        newcomer = Client(here.rooms.open("e"))
        newcomer.room.join(newcomer.peer)
        await newcomer.outlet.until(lambda outlet: outlet.errors)
        assert writer.outlet.errors == []
        here.store.away = False
        await writer.acknowledged(second)
        assert await here.stored_text() == "ab"


@pytest.mark.parametrize("older", [Stored(), None], ids=["not there", "shorter"])
async def test_an_older_state_than_was_seen_before_is_not_taken(tmp_path: Path, older: Stored | None) -> None:
    """As from a primary that does not know yet that it was replaced."""
    async with node(tmp_path, SHORT_LIVED) as here:
        writer = await here.client()
        for text in ("a", "b"):
            update = writer.edit(text)
            writer.send(update)
            await writer.acknowledged(update)
            older = await here.store.load("d") if older is None else older
        await unloaded(here)
        here.store.stale = older
        reader = Client(here.rooms.open("d"))
        reader.room.join(reader.peer)
        reader.room.sync_step1(reader.peer, reader.doc.get_state())
        async with asyncio.timeout(PATIENCE):
            while not here.store.stale_loads:
                await asyncio.sleep(0.01)
        here.store.stale = None
        await reader.outlet.until(lambda outlet: outlet.of(SyncStep2))
        assert reader.text == "ab"
        assert writer.outlet.errors == reader.outlet.errors == []


async def test_readers_of_an_unloaded_document_hear_what_another_node_writes(tmp_path: Path) -> None:
    async with node(tmp_path, SHORT_LIVED) as here, node(tmp_path) as there:
        reader = await here.client()
        writer = await there.client()
        first = writer.edit("a")
        writer.send(first)
        await reader.outlet.until(lambda _: reader.text == "a")
        await unloaded(here)
        writer.send(writer.edit("b"))
        await reader.outlet.until(lambda _: reader.text == "ab")


async def test_two_nodes_that_append_at_once_keep_everything(tmp_path: Path) -> None:
    hub = LocalBus()
    async with node(tmp_path, bus=hub.connect()) as here, node(tmp_path, bus=hub.connect()) as there:
        clients = [await here.client(), await there.client()]
        sent = [[client.edit(f"{side}{turn};") for turn in range(30)] for side, client in zip("xy", clients, strict=True)]
        for turn in range(30):
            for client, mine in zip(clients, sent, strict=True):
                client.send(mine[turn])
            await asyncio.sleep(0)
        for client, mine in zip(clients, sent, strict=True):
            await client.acknowledged(mine[-1])
        log = await here.log()
        assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
        text = text_of(entry.update for entry in log)
        assert sorted(text.split(";")) == sorted([""] + [f"{side}{turn}" for side in "xy" for turn in range(30)])
        for client in clients:
            await client.holds(text)
        assert clients[0].outlet.errors == clients[1].outlet.errors == []


@pytest.mark.parametrize("connected", [True, False], ids=["bus", "store alone"])
async def test_a_node_that_had_the_document_open_before_it_existed_takes_over_its_lineage(
    tmp_path: Path, connected: bool
) -> None:
    hub = LocalBus()
    buses = (hub.connect(), hub.connect()) if connected else (None, None)
    async with node(tmp_path, bus=buses[0]) as here, node(tmp_path, bus=buses[1]) as there:
        early, maker = await here.client(), await there.client()
        update = maker.edit("a")
        maker.send(update)
        await early.outlet.until(lambda outlet: update in outlet.updates)
        lineage = (await here.store.load("d")).lineage
        mine = early.edit("b")
        early.send(mine)
        await early.outlet.until(lambda outlet: mine in outlet.updates or outlet.errors)
        assert early.outlet.errors == []
        assert (await here.pull()).lineage == lineage
        assert sorted(await here.stored_text()) == ["a", "b"]


async def test_a_push_is_judged_entry_by_entry_and_answered_when_durable(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        room = here.rooms.open("d")
        a, b = edits("a", "b")
        outcomes, seq = await room.push([a, b"\xff", a, b], "ada", "phone", [None] * 4)
        assert outcomes[0] is outcomes[3] is Verdict.APPLIED
        assert isinstance(outcomes[1], MalformedUpdate)
        assert outcomes[2] is Verdict.DUPLICATE
        (entry,) = await here.log()
        assert (entry.seq, entry.author, entry.device) == (seq, "ada", "phone")
        assert await here.stored_text() == "ab"


async def test_a_push_of_another_lineage_is_rejected_and_the_document_left_as_it_is(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        room = here.rooms.open("d")
        a, b = edits("a", "b")
        await room.push([a], "", "", [None])
        lineage = (await here.pull()).lineage
        outcomes, _ = await room.push([b, b], "", "", ["another", lineage])
        assert isinstance(outcomes[0], LineageDiffers)
        assert outcomes[0].lineage == lineage
        assert outcomes[1] is Verdict.APPLIED


async def test_a_document_that_is_not_there_is_made_with_the_lineage_of_the_copy_that_brings_it(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        a, b = edits("a", "b")
        await here.rooms.open("d").push([a], "", "", ["lost"])
        assert (await here.store.load("d")).lineage == "lost"
        outcomes, _ = await here.rooms.open("d").push([b, b], "", "", ["another", "lost"])
        assert isinstance(outcomes[0], LineageDiffers)
        assert outcomes[1] is Verdict.APPLIED


async def test_a_duplicate_of_an_edit_that_is_being_committed_waits_for_that_commit(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer = await here.client()
        here.store.gate.clear()
        update = writer.edit("a")
        writer.send(update)
        await here.store.written.wait()
        again = asyncio.ensure_future(here.rooms.open("d").push([update], "", "", [None]))
        other = await here.client()
        other.send(update)
        quiet = await here.client("elsewhere")
        assert quiet.outlet.errors == []
        assert not again.done()
        assert other.outlet.updates == writer.outlet.updates == []
        here.store.gate.set()
        outcomes, seq = await again
        assert (outcomes, seq) == ([Verdict.DUPLICATE], 1)
        await other.acknowledged(update)


async def test_a_load_error_fails_the_join_and_never_gives_a_blank_document(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        await here.rooms.open("d").push([edits("a")[0]], "", "", [None])
    async with node(tmp_path) as here:
        here.store.away = True
        client = await here.client()
        assert [type(error) for error in client.outlet.errors] == [StoreUnavailable]
        assert client.outlet.messages == []
        with pytest.raises(StoreUnavailable):
            await here.pull()
        here.store.away = False
        assert (await here.client()).text == "a"


async def test_a_log_that_does_not_decode_fails_the_join(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        await here.rooms.open("d").push([edits("a")[0]], "", "", [None])
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection, connection:
        connection.execute("UPDATE entries SET data = ?", (b"\x01\xff\xff",))
    async with node(tmp_path) as here:
        client = await here.client()
        assert [type(error) for error in client.outlet.errors] == [DocumentUnreadable]
        assert client.outlet.messages == []


async def test_a_document_that_was_made_anew_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client = await here.client()
        update = client.edit("a")
        client.send(update)
        await client.acknowledged(update)
        with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection, connection:
            connection.execute("UPDATE documents SET lineage = 'another'")
        client.send(client.edit("b"))
        await client.outlet.until(lambda outlet: outlet.errors)
        assert [type(error) for error in client.outlet.errors] == [LineageDiffers]
        assert await here.stored_text() == "a"


async def test_a_room_that_failed_takes_no_push(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        room = here.rooms.open("d")
        await room.push([edits("a")[0]], "", "", [None])
        room.fail(RoomError("broken"))
        with pytest.raises(RoomError):
            await room.push([edits("b")[0]], "", "", [None])
        assert here.rooms.open("d") is not room
