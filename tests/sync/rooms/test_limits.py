"""What one document, one joiner and one push may cost, and what does not count against it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pycrdt

from crdt.document import Verdict
from crdt.errors import CrdtError, MalformedUpdate
from sync.protocol.messages import SyncStep2
from sync.rooms.catch_ups import LARGE
from sync.rooms.errors import DocumentTooLarge, DocumentUnreadable, RoomError, UpdateTooLarge
from sync.rooms.intake import Outcome
from sync.rooms.limits import RoomLimits
from sync.rooms.room import Room
from tests.sync.rooms.kit import PATIENCE, Client, edits, node

SMALL = RoomLimits(poll_interval=0.02, document_bytes=10_000, update_bytes=9_000)


async def pushed(room: Room, *updates: bytes) -> list[type[CrdtError | RoomError] | Verdict]:
    """The outcome of each update of one push."""
    outcomes: list[Outcome] = (await room.push(updates, "", "", [None] * len(updates)))[0]
    return [outcome if isinstance(outcome, Verdict) else type(outcome) for outcome in outcomes]


def deletion(*updates: bytes) -> bytes:
    """An update that deletes the whole text which `updates` make."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        doc.apply_update(update)
    before = doc.get_state()
    del doc.get("text", type=pycrdt.Text)[:]
    return doc.get_update(before)


async def test_what_is_there_already_does_not_count_against_the_documents_limit(tmp_path: Path) -> None:
    async with node(tmp_path, SMALL) as here:
        room = here.rooms.open("d")
        large, more = edits("a" * 8000, "b" * 8000)
        assert await pushed(room, large) == [Verdict.APPLIED]
        assert await pushed(room, large, large, large) == [Verdict.DUPLICATE] * 3
        assert await pushed(room, more) == [DocumentTooLarge]
        live = await here.client()
        live.send(large, large)
        await live.outlet.until(lambda outlet: outlet.updates == [large, large])
        assert live.outlet.errors == []


async def test_an_entry_that_is_refused_does_not_fill_the_document(tmp_path: Path) -> None:
    async with node(tmp_path, SMALL) as here:
        too_long, small, other = edits("a" * 9500)[0], edits("b" * 900)[0], edits("c" * 8000)[0]
        room = here.rooms.open("d")
        assert await pushed(room, too_long, small, b"no update", other) == [
            UpdateTooLarge, Verdict.APPLIED, MalformedUpdate, Verdict.APPLIED
        ]  # fmt: skip


async def test_a_full_document_takes_deletions_and_then_has_room(tmp_path: Path) -> None:
    async with node(tmp_path, SMALL) as here:
        room = here.rooms.open("d")
        updates = edits("a" * 8000, "b" * 1900, "c" * 3000)
        assert await pushed(room, *updates) == [Verdict.APPLIED, Verdict.APPLIED, DocumentTooLarge]
        assert await pushed(room, deletion(*updates[:2])) == [Verdict.APPLIED]
        assert await pushed(room, updates[2]) == [Verdict.APPLIED]
        assert await here.stored_text() == "c" * 3000


async def test_the_limit_is_one_of_the_encoded_document_and_not_of_how_it_came(tmp_path: Path) -> None:
    limits = RoomLimits(poll_interval=0.02, document_bytes=6000)
    async with node(tmp_path, limits) as here:
        # Typed one by one each letter takes some 20 bytes, and all of them together little more than one each.
        assert set(await pushed(here.rooms.open("d"), *edits(*"x" * 3000))) == {Verdict.APPLIED}


async def test_joiners_with_edits_of_their_own_share_the_frame_of_those_without(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer = await here.client()
        writer.send(writer.edit("a" * LARGE))
        await writer.outlet.until(lambda outlet: outlet.updates)
        joiners = [Client(here.rooms.open("d")) for _ in range(10)]
        for joiner in joiners[1:]:
            joiner.edit("offline")
        for joiner in joiners:
            await joiner.join()
        sent = [data for joiner in joiners for data in joiner.outlet.writes if len(data) > LARGE]
        assert len(sent) == 10
        assert len(set(map(id, sent))) == 1


async def test_who_joins_while_too_much_is_on_its_way_waits_and_loses_nothing(tmp_path: Path) -> None:
    limits = RoomLimits(poll_interval=0.02, catch_up_bytes=LARGE)
    async with node(tmp_path, limits) as here:
        writer = await here.client()
        first, second = writer.edit("a" * LARGE), writer.edit("b" * LARGE)
        writer.send(first, second)
        await writer.acknowledged(first, second)
        mute = Client(here.rooms.open("d"))
        mute.outlet.stuck = 1
        await mute.join()
        elsewhere = Client(here.rooms.open("d"))
        elsewhere.doc.apply_update(first)
        elsewhere.room.join(elsewhere.peer)
        elsewhere.room.sync_step1(elsewhere.peer, elsewhere.doc.get_state())
        third = writer.edit("c")
        writer.send(third)
        await writer.acknowledged(third)
        assert elsewhere.outlet.of(SyncStep2) == []
        mute.outlet.stuck = 0
        await elsewhere.outlet.until(lambda outlet: outlet.of(SyncStep2))
        for message in elsewhere.outlet.of(SyncStep2):
            elsewhere.doc.apply_update(message.update)
        assert str(elsewhere.doc.get("text", type=pycrdt.Text)) == "a" * LARGE + "b" * LARGE + "c"


async def test_edits_for_a_document_that_is_being_loaded_count_as_waiting(tmp_path: Path) -> None:
    limits = RoomLimits(poll_interval=0.02, pending_bytes=LARGE)
    async with node(tmp_path, limits) as here:
        here.store.loads.clear()
        early = Client(here.rooms.open("d"))
        early.room.join(early.peer)
        update = early.edit("a" * LARGE)
        early.send(update, update)
        assert here.rooms.pending.full
        here.store.loads.set()
        async with asyncio.timeout(PATIENCE):
            await here.rooms.pending.admit()
        await early.acknowledged(update)


async def test_a_push_waits_while_too_much_waits_for_the_store_and_is_then_taken(tmp_path: Path) -> None:
    limits = RoomLimits(poll_interval=0.02, pending_bytes=LARGE)
    async with node(tmp_path, limits) as here:
        room, other = here.rooms.open("d"), here.rooms.open("other")
        await room.loaded()
        await other.loaded()
        here.store.gate.clear()
        first = asyncio.create_task(pushed(other, *edits("a" * 2 * LARGE)))
        await here.store.written.wait()
        assert here.rooms.pending.full
        second = asyncio.create_task(pushed(room, *edits("b")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert room.journal.applied == 0
        here.store.gate.set()
        async with asyncio.timeout(PATIENCE):
            assert await first == await second == [Verdict.APPLIED]
        assert here.rooms.pending.held == 0


async def test_what_comes_for_a_room_that_failed_is_not_held(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        writer = await here.client()
        here.store.away = True
        writer.send(*edits("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert writer.room.journal.pending_bytes == here.rooms.pending.held > 0
        writer.room.fail(DocumentUnreadable("it is damaged"))
        writer.send(*edits("b"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert here.rooms.pending.held == 0
