"""What another node says of its appends: taken where it continues the log, read where it does not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.bus.local import LocalBus
from sync.rooms.cursor import KEPT_BYTES
from sync.rooms.limits import RoomLimits
from sync.rooms.ports import Draft, NewEntries, Stored
from tests.sync.rooms.kit import PATIENCE, Node, edits, node

ALONE = RoomLimits(poll_interval=60)
"""Nobody finds anything by asking."""


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    bus = LocalBus()
    async with node(folder, ALONE, bus.connect()) as one, node(folder, ALONE, bus.connect()) as other:
        yield one, other


async def test_the_first_entries_of_a_document_bring_its_lineage_and_are_not_read(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        reader, writer = await other.client(), await one.client()
        update = writer.edit("a")
        writer.send(update)
        await writer.acknowledged(update)
        await reader.holds("a")
        assert other.store.reads == 0
        answer = reader.edit("b")
        reader.send(answer)
        await reader.acknowledged(answer)
        assert [entry.update for entry in await one.log()] == [update, answer]


async def test_news_that_come_while_the_store_is_read_are_kept(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        first, second, third = edits("a", "b", "c")
        writer = await one.client()
        writer.send(first)
        await writer.acknowledged(first)
        reader = await other.client()
        room = other.rooms.open("d")
        room.news(NewEntries(2, [Draft(third)], room.log.lineage))
        assert room.log.reading, "there is a hole before it"
        writer.send(second)
        await writer.acknowledged(second)
        writer.send(third)
        await writer.acknowledged(third)
        await reader.holds("abc")
        async with asyncio.timeout(PATIENCE):
            while room.log.reading:
                await asyncio.sleep(0.01)
        assert room.journal.head == 3


async def test_news_of_another_lineage_are_of_another_document(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, _):
        writer = await one.client()
        update = writer.edit("a")
        writer.send(update)
        await writer.acknowledged(update)
        room = one.rooms.open("d")
        room.news(NewEntries(1, [Draft(edits("x")[0])], "another"))
        assert room.journal.head == 1
        assert not room.log.reading
        assert writer.text == "a"


async def test_a_document_that_others_made_meanwhile_takes_what_was_written_here(tmp_path: Path) -> None:
    """Both nodes found nothing. The second hears of the first one's entries while it has edits of its own to append."""
    async with two_nodes(tmp_path) as (one, other):
        ada, bob = await one.client(author="ada"), await other.client(author="bob")
        mine, theirs = ada.edit("a"), bob.edit("b")
        ada.send(mine)
        bob.send(theirs)
        await ada.acknowledged(mine)
        await bob.acknowledged(theirs)
        assert {entry.update for entry in await one.log()} == {mine, theirs}
        assert sorted(await one.stored_text()) == ["a", "b"]


async def test_news_of_what_nobody_appended_are_found_out_by_the_next_append(tmp_path: Path) -> None:
    async with node(tmp_path, ALONE) as here:
        writer = await here.client()
        first, phantom = edits("a", "b")
        writer.send(first)
        await writer.acknowledged(first)
        room = here.rooms.open("d")
        room.news(NewEntries(1, [Draft(phantom)], room.log.lineage))
        writer.send(edits("c")[0])
        await writer.outlet.until(lambda outlet: outlet.errors)
        assert [error.code for error in writer.outlet.errors] == ["store-unavailable"]
        again = await here.client()
        assert again.text == "a"
        assert len(await here.log()) == 1


async def test_what_other_nodes_write_keeps_a_document_in_memory(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        reader, writer = await other.client(), await one.client()
        room = other.rooms.open("d")
        room.used = -math.inf
        update = writer.edit("a")
        writer.send(update)
        await reader.holds("a")
        assert not room.unload(asyncio.get_running_loop().time())


async def test_news_bring_a_document_back_to_its_readers(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        reader, writer = await other.client(), await one.client()
        room = other.rooms.open("d")
        for letters in ("a", "ab", "abc"):
            assert room.unload(math.inf)
            update = writer.edit(letters[-1])
            writer.send(update)
            await reader.holds(letters)


async def test_news_that_come_while_a_document_comes_back_are_kept(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        first, second = edits("a", "b")
        writer, reader = await one.client(), await other.client()
        writer.send(first)
        await reader.holds("a")
        room = other.rooms.open("d")
        assert room.unload(math.inf)
        other.store.loads.clear()
        room.catch_up_with_store(1)
        room.news(NewEntries(1, [Draft(second)], room.log.lineage))
        other.store.loads.set()
        await reader.holds("ab")


async def test_news_of_a_document_that_nobody_reads_load_nothing(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        await other.pull()
        room = other.rooms.open("d")
        assert room.unload(math.inf)
        writer = await one.client()
        update = writer.edit("a")
        writer.send(update)
        await writer.acknowledged(update)
        assert room.resting
        await (await other.client()).holds("a")


async def test_news_that_are_too_large_to_be_kept_are_read(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        reader, writer = await other.client(), await one.client()
        room = other.rooms.open("d")
        assert room.unload(math.inf)
        other.store.loads.clear()
        room.catch_up_with_store(1)
        size = KEPT_BYTES // 4
        for letter in "abcdefgh":
            update = writer.edit(letter * size)
            writer.send(update)
            await writer.acknowledged(update)
        assert sum(len(draft.update) for news in room.log._kept for draft in news.drafts) <= KEPT_BYTES
        # The store is asked before it has them.
        other.store.stale = Stored()
        other.store.loads.set()
        async with asyncio.timeout(PATIENCE):
            while not other.store.stale_loads:
                await asyncio.sleep(0.01)
        other.store.stale = None
        await reader.holds("".join(letter * size for letter in "abcdefgh"))


async def test_a_document_that_nobody_reads_leaves_memory_although_others_write(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (one, other):
        await other.pull()
        room, writer = other.rooms.open("d"), await one.client()
        room.used = -math.inf
        update = writer.edit("a")
        writer.send(update)
        async with asyncio.timeout(PATIENCE):
            while not room.journal.head:
                await asyncio.sleep(0.01)
        assert room.unload(asyncio.get_running_loop().time())
