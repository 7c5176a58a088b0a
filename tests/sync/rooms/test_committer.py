"""Group commit: nothing is acknowledged before it is durable, whatever the store does meanwhile."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sync.rooms import committer
from sync.rooms.committer import RETRY_FIRST
from sync.rooms.errors import RoomError, StoreCorrupted, StoreUnavailable
from tests.sync.rooms.kit import PATIENCE, QUICK, edits, node, text_of


async def test_what_gathers_during_a_commit_goes_with_the_next_in_one_transaction(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        clients = [await here.client(f"d{index}") for index in range(20)]
        here.store.gate.clear()
        first = clients[0].edit("first")
        clients[0].send(first)
        await here.store.written.wait()
        updates = [client.edit("more") for client in clients]
        for client, update in zip(clients, updates, strict=True):
            client.send(update)
        here.store.gate.set()
        for client, update in zip(clients, updates, strict=True):
            await client.acknowledged(update)
        assert here.rooms.committer.commits == 2
        assert here.rooms.committer.entries == 21


async def test_nothing_is_acknowledged_while_the_answer_is_held_back(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer, reader = await here.client(), await here.client()
        here.store.gate.clear()
        update = writer.edit("a")
        writer.send(update)
        await reader.outlet.until(lambda outlet: update in outlet.updates)
        await here.store.written.wait()
        assert writer.outlet.updates == []
        here.store.gate.set()
        await writer.acknowledged(update)


async def test_while_the_store_is_away_nothing_is_acknowledged_and_then_everything(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writers = [await here.client("d"), await here.client("e")]
        reader = await here.client("d")
        here.store.away = True
        updates = [[writer.edit(f"{turn},") for turn in range(3)] for writer in writers]
        for turn in range(3):
            here.store.attempted.clear()
            for writer, mine in zip(writers, updates, strict=True):
                writer.send(mine[turn])
            if turn == 0:
                await here.store.attempted.wait()
        await reader.outlet.until(lambda outlet: len(outlet.updates) == 3)
        assert [writer.outlet.updates for writer in writers] == [[], []]
        here.store.away = False
        for writer, mine in zip(writers, updates, strict=True):
            await writer.acknowledged(*mine)
            assert writer.outlet.updates == mine
        assert await here.stored_text("d") == await here.stored_text("e") == "0,1,2,"


async def test_a_store_that_fails_now_and_then_counts_as_away_until_it_has_stayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(committer, "SETTLED_SECONDS", 0.5)
    with caplog.at_level(logging.INFO, "sync.rooms.store_health"):
        async with node(tmp_path) as here:
            writer = await here.client()
            await here.rooms.check()
            for _ in range(3):
                here.store.lose_answers = 1
                update = writer.edit("x")
                writer.send(update)
                await writer.acknowledged(update)
                with pytest.raises(StoreUnavailable):
                    await here.rooms.check()
            async with asyncio.timeout(PATIENCE):
                while not here.rooms.committer.healthy:
                    await asyncio.sleep(0.01)
            await here.rooms.check()
    assert [record.message for record in caplog.records] == ["store unavailable, edits wait", "store available again"]


async def test_a_document_that_is_given_up_keeps_no_node_from_being_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "SETTLED_SECONDS", 0.01)
    async with node(tmp_path) as here:
        writer = await here.client()
        room = here.rooms.open("d")
        here.store.away = True
        writer.send(writer.edit("x"))
        async with asyncio.timeout(PATIENCE):
            while here.rooms.committer.healthy:
                await asyncio.sleep(0.01)
            room.fail(RoomError("given up"))
            here.store.away = False
            while not here.rooms.committer.healthy:
                await asyncio.sleep(0.01)
        await here.rooms.check()
        assert here.rooms.pending.held == 0


async def test_an_append_that_was_written_although_it_raised_is_recognised_and_not_doubled(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer = await here.client()
        here.store.lose_answers = 1
        updates = [writer.edit("a"), writer.edit("b")]
        writer.send(*updates)
        for update in updates:
            await writer.acknowledged(update)
        after = writer.edit("c")
        writer.send(after)
        await writer.acknowledged(after)
        assert [entry.seq for entry in await here.log()] == [1, 2]
        assert writer.outlet.updates == [*updates, after]


async def test_a_large_append_that_was_written_although_it_raised_is_not_doubled_either(tmp_path: Path) -> None:
    """More entries than are read from the store at a time: two authors who take turns."""
    async with node(tmp_path) as here:
        ada, bob = await here.client(author="ada"), await here.client(author="bob")
        here.store.lose_answers = 1
        mine, theirs = edits(*["a"] * 700), edits(*["b"] * 700)
        for one, two in zip(mine, theirs, strict=True):
            ada.send(one)
            bob.send(two)
        await ada.outlet.until(lambda outlet: mine[-1] in outlet.updates)
        assert len(await here.log()) == 1400


async def test_news_of_its_own_append_before_the_answer_settles_it_once(tmp_path: Path) -> None:
    """The poll sees a commit before the committer does: what was applied since must not count as durable."""
    async with node(tmp_path) as here:
        writer = await here.client()
        room = here.rooms.open("d")
        here.store.gate.clear()
        first = writer.edit("a")
        writer.send(first)
        await here.store.written.wait()
        late = writer.edit("b")
        writer.send(late)
        room.catch_up_with_store(1)
        reads = await here.client("elsewhere")
        assert reads.outlet.errors == []
        assert late not in writer.outlet.updates
        here.store.written.clear()
        here.store.gate.set()
        await writer.acknowledged(first)
        await writer.acknowledged(late)
        assert here.store.written.is_set()
        assert writer.outlet.updates == [first, late]
        assert not here.rooms.committer.task.done()
        assert text_of(entry.update for entry in await here.log()) == "ab"


async def test_a_number_that_turns_out_to_be_of_its_own_append_is_not_read(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer = await here.client()
        here.store.gate.clear()
        update = writer.edit("a")
        writer.send(update)
        await here.store.written.wait()
        here.rooms.open("d").catch_up_with_store(1)
        here.store.gate.set()
        await writer.acknowledged(update)
        assert not here.rooms.open("d").log.reading
        assert here.store.reads == 0


async def test_edits_that_wait_for_a_store_that_is_away_count_as_pending(tmp_path: Path) -> None:
    """Also once the first attempt failed and their room, reading on, is in no batch."""
    async with node(tmp_path, QUICK._replace(pending_bytes=1000)) as here:
        writer = await here.client()
        committing, pending, journal = here.rooms.committer, here.rooms.pending, here.rooms.open("d").journal
        here.store.away = True
        writer.send(writer.edit("x" * 2000))
        async with asyncio.timeout(PATIENCE):
            while committing.healthy or not pending.full:
                await asyncio.sleep(0.01)
        for _ in range(5):
            last = writer.edit("more")
            writer.send(last)
            await asyncio.sleep(RETRY_FIRST)
            assert pending.held == journal.pending_bytes > 2000
        here.store.away = False
        await writer.acknowledged(last)
        await pending.admit()
        assert pending.held == 0


async def test_a_snapshot_is_written_when_enough_entries_follow_and_old_entries_go_by_retention(tmp_path: Path) -> None:
    limits = QUICK._replace(snapshot_entries=5, keep_entries=2)
    async with node(tmp_path, limits) as here:
        writer = await here.client()
        for _ in range(12):
            update = writer.edit("x")
            writer.send(update)
            await writer.acknowledged(update)
        await here.rooms.close()
        stored = await here.store.load("d")
        assert stored.snapshot_seq == 10
        assert [entry.seq for entry in stored.entries] == [11, 12]
        assert [entry.seq for entry in await here.log()] == [9, 10, 11, 12]
        assert await here.stored_text() == "x" * 12


async def test_a_document_that_is_damaged_in_the_store_stops_nobody_else(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        clients = [await here.client(name) for name in ("a", "b", "c")]
        for client in clients:
            client.send(client.edit("first"))
            await client.outlet.until(lambda outlet: outlet.updates)
        with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection, connection:
            connection.execute("UPDATE heads SET head = 7, number = 0 WHERE document = 2")
        here.store.gate.clear()
        more = [client.edit("more") for client in clients]
        clients[0].send(clients[0].edit("held back"))
        await here.store.written.wait()
        for client, update in zip(clients, more, strict=True):
            client.send(update)
        here.store.gate.set()
        for index in (0, 2):
            await clients[index].acknowledged(more[index])
        await clients[1].outlet.until(lambda outlet: outlet.errors)
        assert [type(error) for error in clients[1].outlet.errors] == [StoreCorrupted]
        assert more[1] not in clients[1].outlet.updates
        assert here.rooms.committer.healthy
