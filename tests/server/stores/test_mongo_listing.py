"""What the feed of a MongoDB does not lead to is found by who verifies it."""

from __future__ import annotations

import pytest

from server.stores.mongo import open_mongo
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Store
from tests.server.archive.kit import append, fill, real_updates, said, state_at
from tests.server.stores.mongo_backend import MongoBackend, verified


async def filled(backend: MongoBackend) -> Store:
    """A store with `a`, 60 entries, beside others of every sort."""
    store = await open_mongo(backend.address)
    await fill(store, 4)
    await append(store, "a", 0, real_updates(30))
    await store.changes(0, 10)
    return store


@pytest.mark.parametrize("damage", ["record", "number"])
async def test_a_document_that_the_feed_lost(backend: MongoBackend, damage: str) -> None:
    await (await filled(backend)).close()
    store = await open_mongo(backend.address)
    try:
        assert (await verified(backend, store)).troubles == 0
        if damage == "record":
            assert backend.database.documents.delete_one({"_id": "a"}).deleted_count == 1
        else:
            assert backend.database.documents.update_one({"_id": "a"}, {"$unset": {"number": 1}}).modified_count == 1
        report = await verified(backend, store)
    finally:
        await store.close()
    assert "heads-differ: a: there are entries up to 60 of it, and the changes feed does not have it" in said(report)
    assert report.troubles == 1


async def test_of_a_compacted_document_its_record_is_enough(backend: MongoBackend) -> None:
    store = await filled(backend)
    await store.snapshot("a", 60, state_at(real_updates(30), 60))
    await store.compact("a", 60)
    await store.close()
    store = await open_mongo(backend.address)
    try:
        assert (await verified(backend, store)).troubles == 0
        assert backend.database.documents.update_one({"_id": "a"}, {"$unset": {"number": 1}}).modified_count == 1
        assert "heads-differ: a: there are entries up to 60" in said(await verified(backend, store))
    finally:
        await store.close()


WRONG_KINDS: dict[str, dict[str, object]] = {
    "log": {"e": "text"},
    "log, an entry": {"e.3": "text"},
    "log, an update": {"e.3.0": "text"},
    "log, a count": {"c": "x"},
    "documents": {"snapshot": 3},
    "documents, a number": {"snapshot.seq": "x"},
    "parts": {"b": "text"},
}


@pytest.mark.parametrize("place", WRONG_KINDS)
async def test_values_of_the_wrong_kind_are_damage_to_one_document(backend: MongoBackend, place: str) -> None:
    collection = place.partition(",")[0]
    store = await filled(backend)
    await store.snapshot("a", 30, state_at(real_updates(30), 30))
    # Nothing is left to be numbered then.
    await store.close()
    record = backend.database.documents.find_one({"_id": "a"})
    assert record is not None
    key = {"log": {"_id.d": "a"}, "documents": {"_id": "a"}, "parts": {"_id.u": record["snapshot"]["upload"]}}[collection]
    assert backend.database[collection].update_one(key, {"$set": WRONG_KINDS[place]}).modified_count == 1
    store = await open_mongo(backend.address)
    try:
        report = await verified(backend, store)
    finally:
        await store.close()
    assert "store-corrupted: a: " in said(report)
    assert report.troubles == 1


async def test_a_record_without_a_head_is_damage_with_a_name(backend: MongoBackend) -> None:
    await (await filled(backend)).close()
    assert backend.database.documents.update_one({"_id": "a"}, {"$unset": {"head": 1}}).modified_count == 1
    store = await open_mongo(backend.address)
    try:
        with pytest.raises(StoreCorrupted, match="has no head") as raised:
            await store.changes(0, 10)
        assert raised.value.document == "a"
    finally:
        await store.close()
