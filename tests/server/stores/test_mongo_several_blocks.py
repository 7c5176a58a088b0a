"""Appends that no one block can hold: the feed, the record and `verify` know their real end, and so a lost tail shows."""

from __future__ import annotations

import random

import pytest

from server.stores.mongo import MongoStore, open_mongo
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Adoption, Append, Appended, Change, Conflict, Draft, Entry
from tests.server.commands.kit import ebbtide
from tests.server.stores.mongo_backend import MongoBackend
from tests.sync.rooms.kit import edits

UPDATES = edits(*[random.Random(number).randbytes(3 << 20).hex() for number in range(4)])
"""Of 6 MiB each: two of them fit in a block."""

DRAFTS = [Draft(update, "ann") for update in UPDATES]


def firsts(backend: MongoBackend, document: str) -> list[int]:
    """The numbers that the document's blocks begin at."""
    return [row["_id"]["s"] for row in backend.database.log.find({"_id.d": document}).sort("_id", 1)]


async def test_the_feed_has_the_end_of_the_last_block(backend: MongoBackend, store: MongoStore) -> None:
    entries = [Entry(1 + index, update, "ann", "", 1_800_000_000_000) for index, update in enumerate(UPDATES)]
    assert await store.append([Append("big", 0, DRAFTS, "L"), Append("small", 0, DRAFTS[:1], "L")]) == [
        Appended(4),
        Appended(1),
    ]
    assert await store.adopt([Adoption("adopted", 0, entries, "L")]) == [Appended(4)]
    assert (firsts(backend, "big"), firsts(backend, "small"), firsts(backend, "adopted")) == ([1, 3], [1], [1, 3])
    ends = {"big": 4, "small": 1, "adopted": 4}
    assert dict((await store.changes(0, 10)).changes) == ends
    assert await store.heads(list(ends)) == ends
    verified = ebbtide("verify", "--store", backend.address)
    assert verified.fine, verified


async def test_one_that_was_refused_leaves_the_feed_with_what_is_there(backend: MongoBackend, store: MongoStore) -> None:
    other = await open_mongo(backend.address)
    try:
        assert await store.append([Append("big", 0, DRAFTS[:1], "L")]) == [Appended(1)]
        assert await other.append([Append("big", 1, DRAFTS[1:2], "L")]) == [Appended(2)]
        # It knows the log to end at 1, so that the blocks are refused by their keys.
        assert await store.append([Append("big", 1, DRAFTS, "L")]) == [Conflict(2, "L")]
        assert (await store.changes(0, 10)).changes == [Change("big", 2)]
    finally:
        await other.close()


async def test_a_lost_last_block_is_an_error_and_not_a_shorter_document(backend: MongoBackend, store: MongoStore) -> None:
    await store.append([Append("big", 0, DRAFTS, "L")])
    assert await store.heads(["big"]) == {"big": 4}
    assert backend.database.log.delete_one({"_id": {"d": "big", "s": 3}}).deleted_count == 1
    with pytest.raises(StoreCorrupted, match="entry 3 of the log is not there"):
        await store.load("big")
    verified = ebbtide("verify", "--store", backend.address)
    assert verified.status == 1
    assert "big: entry 3 of the log is not there" in verified.err
