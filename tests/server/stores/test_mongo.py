"""The MongoDB store: the contract through both drivers, and attacks on the database itself."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import NetworkTimeout

from server.bus.local import LocalBus
from server.stores.errors import StoreUnusable
from server.stores.mongo import MongoStore, open_mongo
from server.stores.mongo_client import MongoOptions
from server.stores.mongo_database import Mongo
from server.stores.mongo_feed import Feed
from sync.rooms.answers import Answer
from sync.rooms.errors import RoomError, StoreUnavailable
from sync.rooms.limits import RoomLimits
from sync.rooms.ports import Adoption, Append, Appended, Change, Conflict, Draft
from sync.rooms.registry import Rooms
from tests.contracts.store.contract import StoreContract
from tests.contracts.store.logs import drain, fill, updates
from tests.harness.mongod import Member, ReplicaSet
from tests.server.stores.mongo_backend import MongoBackend
from tests.sync.rooms.kit import edits, text_of

HASTY = MongoOptions(timeout=0.5)


class TestMongoContract(StoreContract):
    @pytest.fixture
    def backend(self, tmp_path: Path, url: str) -> Iterator[MongoBackend]:
        backend = MongoBackend(url)
        yield backend
        backend.close()


class TestMotorContract(StoreContract):
    @pytest.fixture
    def backend(self, tmp_path: Path, url: str) -> Iterator[MongoBackend]:
        backend = MongoBackend(url, motor=True)
        yield backend
        backend.close()


async def refusal(url: str, error: type[RoomError] = StoreUnusable) -> str:
    """Why the store could not be opened, after trying."""
    with pytest.raises(error) as raised:
        await open_mongo(url, HASTY)
    assert "\n" not in raised.value.reason
    assert "secret" not in raised.value.reason
    return raised.value.reason


async def test_an_address_without_a_database(replica_set: ReplicaSet) -> None:
    assert "names no database" in await refusal(replica_set.address)


@pytest.mark.parametrize("url", ["mongodb://", "mongodb://ann:secret@", "mongodb://h:x/d", "mongodb://h/d?w=0&bogus=%"])
async def test_an_address_that_is_none(url: str) -> None:
    assert "is no address" in await refusal(url)


async def test_nobody_listens() -> None:
    assert "127.0.0.1:1/db" in await refusal("mongodb://ann:secret@127.0.0.1:1/db", StoreUnavailable)


async def test_a_standalone_server_is_refused(tmp_path: Path) -> None:
    with Member(tmp_path, None) as member:
        assert "standalone" in await refusal(f"mongodb://{member.address}/db")


async def test_a_server_that_answers_no_more(replica_set: ReplicaSet, url: str) -> None:
    (member,) = replica_set.members
    member.signal(signal.SIGSTOP)
    try:
        assert "no MongoDB that can be written to answers" in await refusal(url, StoreUnavailable)
    finally:
        member.signal(signal.SIGCONT)


async def test_a_newer_schema_is_refused(backend: MongoBackend) -> None:
    backend.database.meta.insert_one({"_id": "schema", "version": 9})
    assert "has schema 9" in await refusal(backend.address)


async def test_intents_of_a_dead_node_are_numbered_by_whoever_asks(backend: MongoBackend, store: MongoStore) -> None:
    await fill(store, "a", 1)
    # What is left of a node that died between its commit and the numbering.
    backend.database.log.insert_many([
        {"_id": {"d": "", "s": "dead0"}, "of": [["b", 1], ["c", 1], ["a", 2]]},
        {"_id": {"d": "b", "s": 1}, "c": 2, "l": "B", "t": 1_800_000_000_000, "e": [[b"1", "", ""], [b"2", "", ""]]},
    ])  # fmt: skip
    page = await store.changes(0, 10)
    assert dict(page.changes) == {"a": 1, "b": 2}
    assert await store.heads("abc") == {"a": 1, "b": 2}
    # One that was still on its way: its intent is still there.
    late = {"_id": {"d": "c", "s": 1}, "c": 1, "l": "C", "t": 1_800_000_000_000, "e": [[b"1", "", ""]]}
    backend.database.log.insert_one(late)
    assert (await store.changes(page.cursor, 10)).changes == [Change("c", 1)]
    assert await store.heads("abc") == {"a": 1, "b": 2, "c": 1}


async def test_own_intents_do_not_stay(backend: MongoBackend, store: MongoStore) -> None:
    for number in range(20):
        await store.append([Append("a", number, [Draft(b"x")], "L")])
    await store.close()
    assert backend.database.log.count_documents({"_id.d": ""}) == 0
    assert backend.database.documents.find_one({"_id": "a"}, {"_id": 0, "number": 0}) == {"head": 20, "lineage": "L"}


async def test_intents_that_could_not_be_numbered_go_with_the_end(
    backend: MongoBackend, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, failed = Feed.number, asyncio.Event()

    async def fails(self: Feed) -> dict[str, int]:
        monkeypatch.setattr(Feed, "number", number)
        failed.set()
        raise NetworkTimeout("no answer")

    monkeypatch.setattr(Feed, "number", fails)
    await store.append([Append("a", 0, [Draft(b"x")], "L")])
    await asyncio.wait_for(failed.wait(), 10)
    await store.close()
    assert backend.database.log.count_documents({"_id.d": ""}) == 0


async def test_a_block_that_no_majority_has_yet_keeps_the_next_writer_waiting(backend: MongoBackend, store: MongoStore) -> None:
    await fill(store, "a", 1)
    client: MongoClient[dict[str, Any]] = MongoClient(backend.address)
    block = {"_id": {"d": "a", "s": 2}, "c": 1, "l": "L", "t": 1_800_000_000_000, "e": [[b"theirs", "", ""]]}
    with client.start_session() as session:
        session.start_transaction()
        client.get_default_database().log.insert_one(block, session=session)
        appending = asyncio.create_task(store.append([Append("a", 1, [Draft(b"ours")], "L")]))
        await asyncio.sleep(0.3)
        assert not appending.done()
        session.commit_transaction()
    client.close()
    (answer,) = await appending
    assert (answer.head, type(answer).__name__) == (2, "Conflict")


async def test_an_append_larger_than_a_bson_document_is_whole_or_not_there(store: MongoStore, backend: MongoBackend) -> None:
    drafts = [Draft(bytes([number]) * (6 << 20), "ann") for number in range(3)]
    assert await store.append([Append("a", 0, drafts, "L"), Append("b", 0, [Draft(b"small")], "L")]) == [
        Appended(3),
        Appended(1),
    ]
    other = await open_mongo(backend.address)
    (answer,) = await other.append([Append("a", 0, drafts, "L")])
    assert (answer.head, type(answer).__name__) == (3, "Conflict")
    assert [len(each) for each in updates((await other.load("a")).entries)] == [6 << 20] * 3
    assert await other.append([Append("a", 3, [Draft(b"four")], "L")]) == [Appended(4)]
    seen: dict[str, int] = {}
    await drain(store, 0, seen)
    assert seen == {"a": 4, "b": 1}
    await other.close()


async def test_an_append_of_thousands_of_documents_needs_few_connections(url: str) -> None:
    store = await open_mongo(url, MongoOptions(pool_most=5, pool_least=0, timeout=1.5))
    batch = [Append(f"d{number}", 0, [Draft(b"x")], "L") for number in range(3000)]
    assert set(await store.append(batch)) == {Appended(1)}
    await store.close()


async def test_a_lost_tail_is_an_error_and_not_a_shorter_document(backend: MongoBackend, store: MongoStore) -> None:
    for number in range(3):
        await store.append([Append("a", number, [Draft(b"x")], "L")])
    assert await store.heads(["a"]) == {"a": 3}
    backend.database.log.delete_one({"_id": {"d": "a", "s": 3}})
    with pytest.raises(RoomError, match="entry 3 of the log is not there"):
        await store.load("a")


async def test_a_document_whose_record_is_lost_is_loaded_from_its_blocks_and_goes_on(
    backend: MongoBackend, store: MongoStore
) -> None:
    await fill(store, "a", 5)
    await store.snapshot("a", 3, b"three")
    await store.changes(0, 10)
    assert backend.database.documents.delete_one({"_id": "a"}).deleted_count == 1
    another = await open_mongo(backend.address)
    try:
        stored = await another.load("a")
        assert (stored.head, stored.snapshot, [entry.seq for entry in stored.entries]) == (5, None, [1, 2, 3, 4, 5])
        assert stored.lineage is not None
        assert [entry.seq for entry in await another.read("a", 2, 10)] == [3, 4, 5]
        assert await another.append([Append("a", 0, [Draft(b"anew")], "new")]) == [Conflict(5, stored.lineage)]
        assert await another.append([Append("a", 5, [Draft(b"x")], stored.lineage)]) == [Appended(6)]
        assert await another.heads(["a"]) == {"a": 6}
        assert [(change.document, change.head) for change in (await another.changes(0, 10)).changes] == [("a", 6)]
    finally:
        await another.close()


async def test_of_a_compacted_document_whose_record_is_lost_what_is_left_is_no_document(
    backend: MongoBackend, store: MongoStore
) -> None:
    for number in range(5):
        await store.append([Append("a", number, [Draft(b"x")], "L")])
    await store.snapshot("a", 4, b"four")
    assert await store.compact("a", 3) == 3
    assert backend.database.documents.delete_one({"_id": "a"}).deleted_count == 1
    with pytest.raises(RoomError, match="entry 1 of the log is not there"):
        await store.load("a")
    assert await store.append([Append("a", 0, [Draft(b"anew")], "new")]) == [Conflict(5, "L")]


async def test_uploads_that_nobody_finished_are_swept_away(backend: MongoBackend, store: MongoStore) -> None:
    await fill(store, "a", 2)
    backend.database.uploads.insert_one({"_id": (upload := "left behind")})
    backend.database.parts.insert_one({"_id": {"u": upload, "p": 0}, "b": b"x"})
    await store.snapshot("a", 1, b"one")
    assert backend.database.parts.count_documents({}) == 2, "it may still be under way"
    for each in store._snapshots._first_seen:
        store._snapshots._first_seen[each] -= 7200
    await store.snapshot("a", 2, b"two")
    assert backend.database.uploads.count_documents({}) == 0
    assert backend.database.parts.count_documents({}) == 1
    assert (await store.load("a")).snapshot == b"two"


async def test_a_store_that_is_away_says_so_and_comes_back(mortal: ReplicaSet) -> None:
    store = await open_mongo(mortal.url("db"), HASTY)
    await fill(store, "a", 1)
    (member,) = mortal.members
    member.kill()
    for call in (store.load("a"), store.check(), store.append([Append("a", 1, [Draft(b"x")], "L")])):
        with pytest.raises(StoreUnavailable):
            await call
    member.start()
    mortal.primary()
    (answer,) = await store.append([Append("a", 1, [Draft(b"x")], "L")])
    assert answer.head == 2
    assert len((await store.load("a")).entries) == 2
    await store.close()


async def test_a_document_of_60_mb_survives(url: str) -> None:
    """Also when the snapshot is all that is left of it."""
    limits = RoomLimits(document_bytes=80 << 20, snapshot_bytes=1 << 30, snapshot_entries=10, keep_entries=1)
    texts = [random.Random(number).randbytes(3_000_000).hex() for number in range(10)]
    updates = edits(*texts, "the end")
    store = await open_mongo(url)
    rooms = Rooms(store, LocalBus().connect(), limits)
    room = rooms.open("big")
    for update in updates:
        await room.push([update], "ann", "phone", [None])
    await rooms.close()
    await store.close()
    again = await open_mongo(url)
    stored = await again.load("big")
    assert stored.snapshot is not None
    assert len(stored.snapshot) > 50_000_000
    assert (await again.read("big", 0, 1))[0].seq > 1, "older entries are gone"
    other = Rooms(again, LocalBus().connect(), limits)
    state = (await other.open("big").pull(b"\0", Answer(other.answers))).update
    assert text_of([state]) == "".join(texts) + "the end"
    await other.close()
    await again.close()


async def test_who_had_begun_to_append_keeps_the_document(
    backend: MongoBackend, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Mongo.transact

    async def transact(self: Mongo, work: Any, *attempts: int) -> Any:
        result = await real(self, work, *attempts)
        if not backend.database.log.count_documents({"_id": {"d": "a", "s": 1}}):
            # Its writer had counted the compactions before this one, and so does not take it back.
            block = {"_id": {"d": "a", "s": 1}, "c": 1, "l": "M", "t": 1, "e": [[b"theirs", "", ""]]}
            backend.database.log.insert_one(block)
        return result

    monkeypatch.setattr(Mongo, "transact", transact)
    assert await store.adopt([Adoption("a", 100, [], "L")]) == [Conflict(1, "M")]
    assert updates((await store.load("a")).entries) == [b"theirs"]
    assert await store.append([Append("a", 1, [Draft(b"more")], "M")]) == [Appended(2)]
    assert (await store.changes(0, 10)).changes == [Change("a", 2)]


async def test_who_appends_next_is_told_once_that_another_node_lost_its_turn(store: MongoStore, backend: MongoBackend) -> None:
    draft = [Draft(b"\0\0")]
    other = await open_mongo(backend.address)
    try:
        assert await store.append([Append("d", 0, draft, "a")]) == [Appended(1)]
        assert isinstance((await other.append([Append("d", 0, draft, "a")]))[0], Conflict)
        assert await store.append([Append("elsewhere", 0, draft, "b")]) == [Appended(1)]
        assert isinstance((await other.append([Append("d", 0, draft, "a")]))[0], Conflict)
        assert await store.append([Append("d", 1, draft, "a")]) == [Appended(2, contended=True)]
        assert await store.append([Append("d", 2, draft, "a")]) == [Appended(3)]
        assert await other.append([Append("d", 3, draft, "a")]) == [Appended(4)]
    finally:
        await other.close()


async def test_a_node_that_died_while_it_numbered_keeps_nobody_waiting(store: MongoStore, backend: MongoBackend) -> None:
    """Its transaction holds the feed's clock until the server gives it up, a minute later."""
    draft = [Draft(b"\0\0")]
    await store.append([Append("before", 0, draft, "a")])
    cursor = (await store.changes(0, 10)).cursor
    meta = backend.database.meta
    with backend.database.client.start_session() as dead:
        dead.start_transaction()
        meta.update_one({"_id": "clock"}, {"$inc": {"number": 1}}, session=dead)
        await store.append([Append("during", 0, draft, "b")])
        assert await store.heads(["before", "during"]) == {"before": 1, "during": 1}
        assert (await store.changes(cursor, 10)).changes == []
        await store.append([Append("during", 1, draft, "b")])
        assert await store.heads(["during"]) == {"during": 2}
        dead.abort_transaction()
    async with asyncio.timeout(10):
        while not (changes := (await store.changes(cursor, 10)).changes):
            await asyncio.sleep(0.05)
    assert changes == [Change("during", 2)]
