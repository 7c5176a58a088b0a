"""The store on MongoDB: a replica set, shared by any number of nodes.

The design and its figures: docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager

from bson.objectid import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from server.stores.adoption import check_adoptions
from server.stores.mongo_appender import Appender
from server.stores.mongo_blocks import BLOCK_BYTES, ENTRY_OVERHEAD, Put, check_kinds
from server.stores.mongo_client import MongoOptions, connect
from server.stores.mongo_database import Mongo, Row
from server.stores.mongo_ends import Ends
from server.stores.mongo_errors import translating
from server.stores.mongo_feed import Feed
from server.stores.mongo_floors import Floors
from server.stores.mongo_reader import LogReader
from server.stores.mongo_snapshots import Snapshots
from sync.rooms.errors import StoreCorrupted, StoreUnavailable, UpdateTooLarge
from sync.rooms.ports import Adoption, Append, Appended, Changes, Conflict, Entry, Stored

PART_BYTES = 1 << 20
"""Of a snapshot's state, before compression."""

_RECORD: Row = {
    "head": int,
    "floor": int,
    "lineage": str,
    "snapshot": {"seq": int, "upload": ObjectId, "parts": int, "size": int},
}
"""What the record of a document may have, and of which types."""

RELOADS = 20
"""How often a load starts again because the document moved under it."""


async def open_mongo(url: str, options: MongoOptions | None = None) -> MongoStore:
    """Open the store in the database that `url` names; its collections are made when missing.

    Raises `StoreUnusable` for an address, a server or rights with which no store is possible, `StoreUnavailable` when no
    primary answers in time.
    """
    return MongoStore(await connect(url, options or MongoOptions()))


class MongoStore:
    """A `sync.rooms.ports.Store`; made by `open_mongo`. To be used and closed on the loop that opened it."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._ends = Ends(mongo)
        self._reader = LogReader(mongo, self._ends)
        self._appender = Appender(mongo, self._ends)
        self._floors = Floors(mongo, self._ends)
        self._feed = Feed(mongo)
        self._snapshots = Snapshots(mongo)
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closing: asyncio.Task[None] | None = None

    async def load(self, document: str) -> Stored:
        """`Store.load`."""
        with self._call():
            before: Row | None = None
            for _ in range(RELOADS):
                record = await self._record(document)
                try:
                    return await self._load(document, record)
                except StoreCorrupted:
                    # Unless a snapshot and a compaction came in between.
                    if record == before:
                        raise
                    before = record
            raise StoreUnavailable("the document changes faster than it can be read")

    async def read(self, document: str, after: int, limit: int) -> Sequence[Entry]:
        """`Store.read`. Compacted entries are left out: the first may then have a number above `after` + 1."""
        with self._call():
            while True:
                record = await self._record(document)
                floor = record.get("floor", 0)
                try:
                    return await self._reader.read(document, max(after, floor), min(limit, 2**31 - 1), record.get("head", 0))
                except StoreCorrupted:
                    if (await self._record(document)).get("floor", 0) == floor:
                        raise

    async def append(self, batch: Sequence[Append]) -> Sequence[Appended | Conflict]:
        """`Store.append`. The lineage of a `Conflict` about a document that does not exist is "".

        An update may have 15 MiB at most. Raises `ValueError` for a batch that is none.
        """
        if len({append.document for append in batch}) != len(batch):
            raise ValueError("a document occurs twice in a batch")
        if not all(append.drafts for append in batch):
            raise ValueError("an append has no draft")
        with self._call():
            return await self._append(batch)

    async def adopt(self, batch: Sequence[Adoption]) -> Sequence[Appended | Conflict]:
        """`Store.adopt`. A log that begins behind a number is begun in a transaction of its own.

        Raises `UpdateTooLarge` for an entry that no block can hold.
        """
        check_adoptions(batch)
        for entry in (entry for adoption in batch for entry in adoption.entries):
            size = len(entry.update) + len(entry.author) + len(entry.device)
            if size + ENTRY_OVERHEAD > BLOCK_BYTES:
                raise UpdateTooLarge(len(entry.update), BLOCK_BYTES)
        with self._call():
            answers = {adoption.document: await self._begin(adoption) for adoption in batch if not adoption.entries}
            filled = [adoption for adoption in batch if adoption.entries]
            if filled:
                for adoption, answer in zip(filled, await self._append(filled), strict=True):
                    # Nobody is kept from appending to what is adopted.
                    answers[adoption.document] = Appended(answer.head) if isinstance(answer, Appended) else answer
            return [answers[adoption.document] for adoption in batch]

    async def heads(self, documents: Iterable[str]) -> dict[str, int]:
        """`Store.heads`."""
        with self._call():
            return await self._feed.heads(list(documents))

    async def changes(self, since: int, limit: int) -> Changes:
        """`Store.changes`."""
        with self._call():
            return await self._feed.changes(since, limit)

    async def snapshot(self, document: str, seq: int, state: bytes) -> None:
        """`Store.snapshot`. Raises `ValueError` when the document has no entry `seq`."""
        with self._call():
            end = await self._ends.end(document)
            if not 0 < seq <= end.head:
                raise ValueError(f"the document has no entry {seq} to keep a snapshot at")
            kept = (await self._record(document)).get("snapshot")
            if kept is None or kept["seq"] < seq:
                await self._snapshots.keep(document, seq, end.lineage, len(state), _packed(state))

    async def compact(self, document: str, keep_after: int) -> int:
        """`Store.compact`."""
        with self._call():
            record = await self._record(document)
            if "snapshot" not in record:
                return 0
            goal = min(record["snapshot"]["seq"], keep_after)
            if goal <= record.get("floor", 0):
                return 0
            # What goes must be in the feed: its intents find nothing afterwards.
            if document in await self._feed.number():
                raise StoreUnavailable("the document's entries cannot be numbered just now, and so not be compacted")
            return await self._floors.compact(document, goal)

    async def check(self) -> None:
        """`Store.check`. Writes a row that a majority makes durable."""
        with self._call():
            await self._mongo.meta.update_one({"_id": "probe"}, {"$inc": {"count": 1}}, upsert=True)

    async def close(self) -> None:
        """`Store.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._quiet.wait()
        await self._feed.close()
        await self._mongo.close()

    async def _append(self, batch: Sequence[Put]) -> Sequence[Appended | Conflict]:
        intent = self._feed.new_intent()
        answers, written = await self._appender.append(batch, intent)
        if written is not None:
            self._feed.finished(intent, written)
        return answers

    async def _begin(self, adoption: Adoption) -> Appended | Conflict:
        end = (adoption.expected, adoption.lineage)

        async def numbered(session: AsyncClientSession) -> None:
            await self._feed.give_numbers({adoption.document: end}, session)

        if await self._floors.begin_behind(adoption, numbered):
            return Appended(adoption.expected)
        found = await self._ends.end(adoption.document)
        return Appended(found.head) if (found.head, found.lineage) == end else Conflict(found.head, found.lineage)

    async def _record(self, document: str) -> Row:
        record = await self._mongo.documents.find_one({"_id": document}) or {}
        check_kinds(document, record, {field: kind for field, kind in _RECORD.items() if field in record})
        return record

    async def _load(self, document: str, record: Row) -> Stored:
        snapshot = record.get("snapshot")
        end, entries = await self._reader.load(document, record)
        if not end.head:
            return Stored()
        if snapshot is None:
            return Stored(end.lineage, end.head, 0, None, entries)
        state = await self._snapshots.state(document, snapshot)
        if state is None:
            raise StoreCorrupted(document, "a part of the snapshot is not there")
        return Stored(end.lineage, end.head, snapshot["seq"], state, entries)

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self._closing is not None:
            raise StoreUnavailable("the store is closed")
        self._under_way += 1
        self._quiet.clear()
        try:
            with translating():
                yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()


async def _packed(state: bytes) -> AsyncIterator[bytes]:
    for start in range(0, max(1, len(state)), PART_BYTES):
        yield await asyncio.to_thread(zlib.compress, memoryview(state)[start : start + PART_BYTES], 1)
