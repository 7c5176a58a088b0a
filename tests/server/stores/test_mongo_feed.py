"""Numbering in MongoDB goes on beside a document that is damaged."""

from __future__ import annotations

import logging

import pytest

from server.stores.mongo import open_mongo
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Append, Appended, Draft
from tests.server.archive.kit import append, real_updates, said
from tests.server.stores.mongo_backend import MongoBackend, verified

DAMAGE: dict[str, dict[str, dict[str, object]]] = {
    "a count that is a text": {"$set": {"c": "x"}},
    "a count that is null": {"$set": {"c": None}},
    "no count": {"$unset": {"c": 1}},
    "a lineage that is a number": {"$set": {"l": 5}},
    "no lineage": {"$unset": {"l": 1}},
}


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The documents of which the log says that they are damaged."""
    return [record.__dict__["document"] for record in caplog.records if "damaged" in record.message]


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_block_keeps_nobody_else_from_being_numbered(
    backend: MongoBackend, caplog: pytest.LogCaptureFixture, damage: str, is_new: bool
) -> None:
    caplog.set_level(logging.ERROR, "server.stores.mongo_feed")
    updates = real_updates(3)
    store, head = await open_mongo(backend.address), 0
    if not is_new:
        await append(store, "a", 0, updates[:7])
        head = 7
        assert await store.heads(["a"]) == {"a": 7}
    last = Append("a", head, [Draft(update) for update in updates[head : head + 5]], "a")
    assert await store.append([last, Append("b", 0, [Draft(updates[0])], "b")]) == [Appended(head + 5), Appended(1)]
    # The append is not numbered yet: nothing else has had a turn since.
    assert backend.database.log.update_one({"_id": {"d": "a", "s": head + 1}}, DAMAGE[damage]).modified_count == 1
    known = {} if is_new else {"a": 7}
    for number in range(2, 5):
        assert await store.heads(["a", "b"]) == {**known, "b": number - 1}
        assert await store.append([Append("b", number - 1, [Draft(updates[number - 1])], "b")]) == [Appended(number)]
    page = await store.changes(0, 10)
    assert {change.document: change.head for change in page.changes} == {**known, "b": 4}
    assert complaints(caplog) == ["a"]
    await store.close()
    another = await open_mongo(backend.address)
    try:
        assert await another.heads(["a", "b"]) == {**known, "b": 4}
        with pytest.raises(StoreCorrupted) as raised:
            await another.load("a")
        assert raised.value.document == "a"
        report = await verified(backend, another)
    finally:
        await another.close()
    assert ": a: " in said(report)
    assert report.troubles == 1


async def test_a_record_with_a_head_of_the_wrong_kind_keeps_nobody_else_from_being_asked_for(
    backend: MongoBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "server.stores.mongo_feed")
    updates = real_updates(3)
    filled = await open_mongo(backend.address)
    for name in ("a", "b"):
        await append(filled, name, 0, updates[:2])
    # Nothing is left to be numbered then.
    await filled.close()
    store = await open_mongo(backend.address)
    try:
        assert await store.heads(["a", "b"]) == {"a": 2, "b": 2}
        # As if it had been numbered since.
        clock = backend.database.meta.find_one_and_update({"_id": "clock"}, {"$inc": {"number": 1}})
        assert clock is not None
        damage = {"head": "x", "number": clock["number"] + 1}
        assert backend.database.documents.update_one({"_id": "a"}, {"$set": damage}).modified_count == 1
        for _ in range(2):
            assert await store.heads(["a", "b"]) == {"a": 2, "b": 2}, "what it knew before"
        assert await store.heads(["b"]) == {"b": 2}
        assert await store.heads(["a", "b"]) == {"b": 2}
        assert complaints(caplog) == ["a"]
        with pytest.raises(StoreCorrupted):
            await store.load("a")
        # What the log gives need not be kept: the next append sets it right.
        await append(store, "a", 2, updates[2:4])
        assert await store.heads(["a", "b"]) == {"a": 4, "b": 2}
        assert (await store.load("a")).head == 4
    finally:
        await store.close()


async def test_a_damaged_block_among_those_to_be_compacted_is_damage_with_a_name(backend: MongoBackend) -> None:
    store = await open_mongo(backend.address)
    try:
        for number in range(4):
            await store.append([Append("a", number, [Draft(b"x")], "a")])
        await store.snapshot("a", 4, b"state")
        assert backend.database.log.update_one({"_id": {"d": "a", "s": 2}}, {"$set": {"c": "x"}}).modified_count == 1
        with pytest.raises(StoreCorrupted) as raised:
            await store.compact("a", 3)
        assert raised.value.document == "a"
    finally:
        await store.close()
