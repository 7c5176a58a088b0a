"""The log in MongoDB: blocks of entries behind one another, and what guards that they stay so.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from bson import MaxKey, MinKey
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from server.stores.mongo_client import Mongo, Row
from sync.rooms.errors import StoreCorrupted, StoreUnavailable
from sync.rooms.ports import Adoption, Append, Appended, Conflict, Entry

BLOCK_BYTES = 15 << 20
"""The most that a block may hold: a BSON document has at most 16 MiB."""

KNOWN_MOST = 100_000
COMPACTION_STEP = 1000
CHUNK = 1000
"""Documents asked for in one query."""

LOOK_UPS = 20
"""Logs whose last block is looked for at a time: an append of thousands of documents leaves connections to others."""

LOOK_AGAIN = 0.02
WAITING_MOST = 32
"""Notes of lost turns that are kept, over all documents."""

DUPLICATE_KEY = 11000
INTENTS = ""
"""The document that intents are filed under. No real one has this name."""


ENTRY_OVERHEAD = 64
"""Of an entry in a block, beside its bytes and names; more than it is."""
_COUNTED: Row = {"_id": {"s": int}, "c": int}
_END: Row = {**_COUNTED, "l": str}
_BLOCK: Row = {**_END, "t": int, "e": list}
"""What a block has, and of which types."""

Put = Append | Adoption


class End(NamedTuple):
    """Where a log ended at some time: its head then, its lineage, and the count of compactions before we looked."""

    head: int
    lineage: str
    compactions: int


class Log:
    """Appends to logs and reads them. Methods raise `PyMongoError` beside what they name; the store translates."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        # For what may be lost.
        self._meta = mongo.meta.with_options(write_concern=WriteConcern(w=1))
        self._known: dict[str, End] = {}
        self._compactions = 0
        # Of notes of lost turns: those that were there when we last looked.
        self._noted: set[str] = set()

    async def append(self, batch: Sequence[Put], intent: Row) -> list[Appended | Conflict]:
        """`Store.append`, and `Store.adopt` of entries; `intent` is written before the first block."""
        names = [append.document for append in batch]
        ends = dict(zip(names, await self._ends(batch), strict=True))
        behind = [append for append in batch if _continues(append, ends[append.document])]
        now = time.time_ns() // 1_000_000
        for name in names:
            # Until the outcome is certain nothing is known.
            self._known.pop(name, None)
        refused, row = await self._insert(behind, ends, now, intent) if behind else (set[str](), Row())
        wanted = self._wanted(row) if behind else set()
        lost = {append.document for append in batch if not _continues(append, ends[append.document])} | refused
        if lost:
            await self._note(lost)
        answers: list[Appended | Conflict] = []
        for append in batch:
            end = ends[append.document]
            if append.document not in lost:
                head = append.expected + len(_entries(append))
                self._learn(append.document, End(head, append.lineage, row.get("count", 0)))
                answers.append(Appended(head, append.document in wanted))
            else:
                if append.document in refused:
                    end = await self._end_beyond(append)
                answers.append(Conflict(end.head, end.lineage))
        return answers

    async def begin_behind(self, adoption: Adoption, numbered: Callable[[AsyncClientSession], Awaitable[None]]) -> bool:
        """Begin the log of a document that has none behind a number; False when there is one.

        `numbered` gives the document its place in the feed.
        """
        document = adoption.document

        async def begin(session: AsyncClientSession) -> bool:
            record = await self._mongo.documents.find_one({"_id": document}, session=session) or {}
            if "head" in record or "floor" in record or await self._has_block(document, session):
                return False
            await numbered(session)
            begun = {"floor": adoption.expected, "lineage": adoption.lineage}
            await self._mongo.documents.update_one({"_id": document}, {"$set": begun}, session=session)
            # From here on, whoever appends at a lower number finds out: see "Compaction takes keys away" on the design page.
            await self._mongo.meta.update_one({"_id": "compactions"}, {"$inc": {"count": 1}}, upsert=True, session=session)
            return True

        self._known.pop(document, None)
        if not await self._mongo.transact(begin):
            return False
        if await self._has_block(document, None):
            # Of somebody who had counted the compactions before: the document is theirs.
            await self._mongo.documents.delete_one({"_id": document, "head": adoption.expected})
            return False
        return True

    async def end(self, document: str) -> End:
        """Where the log ends, as a majority has it. Of a document that does not exist: number 0 and lineage ""."""
        return (await self._look_up([document]))[0]

    async def load(self, document: str, record: Row) -> tuple[End, list[Entry]]:
        """Where the log ends, and the entries after the snapshot of the document's `record`.

        Raises `StoreCorrupted` when entries are missing between them or before the head that the record knows.
        """
        compactions = self._compactions
        seq = record["snapshot"]["seq"] if "snapshot" in record else 0
        lineage, entries = await self._read(document, seq, None, record.get("head", 0))
        end = End(entries[-1].seq if entries else seq, lineage or record.get("lineage", ""), compactions)
        self._learn(document, end)
        return end, entries

    async def read(self, document: str, after: int, limit: int, head: int) -> list[Entry]:
        """Up to `limit` entries above `after`, which is not under the floor. `head` is a number known to be there.

        Raises `StoreCorrupted` when entries are missing between them or before `head`.
        """
        return (await self._read(document, after, limit, head))[1]

    async def compact(self, document: str, goal: int) -> int:
        """Raise the document's floor to `goal`, and delete the blocks under it. How many entries went."""
        end = await self.end(document)
        before = await self._mongo.documents.find_one_and_update(
            {"_id": document, "floor": {"$not": {"$gte": goal}}}, {"$set": {"floor": goal, "lineage": end.lineage}}
        )
        if before is None:
            return 0
        # Before the first deletion: see "Compaction takes keys away" on the design page.
        await self._mongo.meta.update_one({"_id": "compactions"}, {"$inc": {"count": 1}}, upsert=True)
        while under := await self._keys_under(document, goal):
            await self._mongo.log.delete_many({"_id": {"$in": under}})
        return int(goal - before.get("floor", 0))

    # Appending

    async def _ends(self, batch: Sequence[Put]) -> list[End]:
        ends: dict[str, End] = {}
        for append in batch:
            known = self._known.get(append.document)
            if known is not None and _continues(append, known):
                ends[append.document] = known
        unknown = [append.document for append in batch if append.document not in ends]
        ends.update(zip(unknown, await self._look_up(unknown), strict=True))
        return [ends[append.document] for append in batch]

    async def _insert(self, appends: Sequence[Put], ends: dict[str, End], now: int, intent: Row) -> tuple[set[str], Row]:
        """Write the blocks. The documents of those that could not be, since others are there; and the row with the count of
        compactions up to which that is sure."""
        # In one order on all nodes: who is first is so at all documents that two nodes write.
        appends = sorted(appends, key=lambda append: append.document)
        blocks = [row for append in appends for row in self._rows(append, now)]
        refused: set[str] = set()
        async with self._mongo.session() as session:
            if len(blocks) > len(appends):
                refused = await self._insert_large(appends, now, intent)
            else:
                rows = [intent, *blocks]
                while rows and (index := await self._insert_ordered(rows, session)) is not None:
                    refused.add(rows[index]["_id"]["d"])
                    rows = rows[index + 1 :]
            row = await self._mongo.meta.find_one({"_id": "compactions"}, session=session) or Row()
            count = row.get("count", 0)
            in_doubt = [a for a in appends if a.document not in refused and ends[a.document].compactions != count]
            if in_doubt:
                refused |= await self._take_back(in_doubt, session)
            self._compactions = max(self._compactions, count)
        return refused, row

    async def _insert_ordered(self, rows: list[Row], session: AsyncClientSession) -> int | None:
        """Insert in order; the index of the row whose key is taken, before which all and after which none was written."""
        try:
            await self._mongo.log.insert_many(rows, ordered=True, session=session)
        except BulkWriteError as error:
            details = error.details or {}
            errors = details.get("writeErrors", [])
            if details.get("writeConcernErrors") or len(errors) != 1 or errors[0].get("code") != DUPLICATE_KEY:
                raise
            return int(errors[0]["index"])
        return None

    async def _insert_large(self, appends: Sequence[Put], now: int, intent: Row) -> set[str]:
        """As `_insert`, for appends of several blocks each: all or nothing in one transaction a document."""
        refused: set[str] = set()
        await self._mongo.log.insert_one(intent)
        for append in appends:
            rows = self._rows(append, now)

            async def write(session: AsyncClientSession, rows: list[Row] = rows) -> None:
                # One by one: the message of a transaction's operation has at most 48 MB.
                for row in rows:
                    await self._mongo.log.insert_one(row, session=session)

            try:
                await self._mongo.transact(write)
            except DuplicateKeyError:
                refused.add(append.document)
        return refused

    def _rows(self, append: Put, now: int) -> list[Row]:
        return [block_row(append, rows, first, now, self._mongo.node) for first, rows in _pieces(append)]

    async def _take_back(self, appends: Sequence[Put], session: AsyncClientSession) -> set[str]:
        """Remove blocks at or under their document's floor: they took the place of entries that were compacted."""
        floors = self._mongo.documents.find(
            {"_id": {"$in": [append.document for append in appends]}, "floor": {"$exists": True}}, {"floor": 1}, session=session
        )
        by_name = {row["_id"]: row["floor"] for row in await floors.to_list(None)}
        stale = [append for append in appends if append.expected < by_name.get(append.document, 0)]
        keys = [{"d": append.document, "s": first} for append in stale for first, _ in _pieces(append)]
        if keys:
            await self._mongo.log.delete_many({"_id": {"$in": keys}}, session=session)
        return {append.document for append in stale}

    def _wanted(self, row: Row) -> set[str]:
        """The documents at which somebody lost a turn since we last looked."""
        notes = row.get("waiting", [])
        wanted = {note["d"] for note in notes if note["key"] not in self._noted}
        self._noted = {note["key"] for note in notes}
        return wanted

    async def _note(self, documents: Iterable[str]) -> None:
        """Let others know that we lost a turn at these documents, where each of them looks after an append."""
        notes = [{"d": document, "key": secrets.token_hex(8)} for document in islice(documents, WAITING_MOST)]
        self._noted |= {note["key"] for note in notes}
        push = {"$push": {"waiting": {"$each": notes, "$slice": -WAITING_MOST}}}
        await self._meta.update_one({"_id": "compactions"}, push, upsert=True)

    async def _end_beyond(self, append: Put) -> End:
        """Where the log ends, given that a block is in the way of `append`.

        Raises `StoreUnavailable` when the block stays uncommitted.
        """
        deadline = time.monotonic() + self._mongo.timeout
        while (end := await self.end(append.document)).head <= append.expected:
            if time.monotonic() > deadline:
                raise StoreUnavailable("another append to the document is neither committed nor undone yet")
            await asyncio.sleep(LOOK_AGAIN)
        return end

    async def _has_block(self, document: str, session: AsyncClientSession | None) -> bool:
        return await self._mongo.log.find_one(_blocks(document, MinKey(), MaxKey()), {"c": 1}, session=session) is not None

    def _learn(self, document: str, end: End) -> None:
        if len(self._known) >= KNOWN_MOST:
            self._known.clear()
        self._known[document] = end

    # Reading

    async def _look_up(self, documents: Sequence[str]) -> list[End]:
        """`end` of each."""
        compactions = self._compactions
        lasts: list[Row | None] = []
        for start in range(0, len(documents), LOOK_UPS):
            lasts += await asyncio.gather(*[self._last(document) for document in documents[start : start + LOOK_UPS]])
        # After the blocks: where there are none any more, the floor says how far they went.
        records: dict[str, Row] = {}
        for start in range(0, len(documents), CHUNK):
            found = self._mongo.documents.find({"_id": {"$in": documents[start : start + CHUNK]}}, {"floor": 1, "lineage": 1})
            records.update({record["_id"]: record async for record in found})
        ends = []
        for document, last in zip(documents, lasts, strict=True):
            record = records.get(document, {})
            head, lineage = record.get("floor", 0), record.get("lineage", "")
            if last is not None:
                check_kinds(document, last, _END)
                head, lineage = max(head, last["_id"]["s"] + last["c"] - 1), last["l"]
            ends.append(End(head, lineage, compactions))
            self._learn(document, ends[-1])
        return ends

    async def _last(self, document: str) -> Row | None:
        """The key, count and lineage of the last block."""
        found: Row | None = await self._mongo.log.find_one(
            _blocks(document, MinKey(), MaxKey()), {"c": 1, "l": 1}, sort=[("_id", -1)]
        )
        return found

    async def _read(self, document: str, after: int, limit: int | None, head: int) -> tuple[str, list[Entry]]:
        """The lineage, or "" when there is no entry, and the entries."""
        entries: list[Entry] = []
        seq, lineage = after + 1, ""
        async for block in self._blocks_from(document, seq, limit):
            first, rows, lineage = block["_id"]["s"], block["e"], block["l"]
            if first > seq or len(rows) != block["c"]:
                raise _hole(document, seq)
            for row in rows[seq - first :]:
                if row is None:
                    raise _hole(document, seq)
                # An adopted entry has a time of its own.
                entries.append(_entry(document, seq, row, block["t"]))
                seq += 1
                if len(entries) == limit:
                    return lineage, entries
        if seq <= head:
            raise _hole(document, seq)
        return lineage, entries

    async def _blocks_from(self, document: str, seq: int, limit: int | None) -> AsyncIterator[Row]:
        """The block that has entry `seq`, if any, and those behind it."""
        looked = seq <= 1
        cursor = self._mongo.log.find(_blocks(document, seq, MaxKey())).sort("_id", 1)
        async for block in cursor if limit is None else cursor.limit(limit):
            check_kinds(document, block, _BLOCK)
            # Who reads on from where an append ended, as most do, needs no second question.
            if not looked and block["_id"]["s"] > seq and (begun := await self._begun_before(document, seq)) is not None:
                yield begun
            looked = True
            yield block
        if not looked and (begun := await self._begun_before(document, seq)) is not None:
            yield begun

    async def _begun_before(self, document: str, seq: int) -> Row | None:
        """The block that has entry `seq` and begins at or before it."""
        block: Row | None = await self._mongo.log.find_one(_blocks(document, MinKey(), seq), sort=[("_id", -1)])
        if block is None:
            return None
        check_kinds(document, block, _BLOCK)
        return block if block["_id"]["s"] + block["c"] > seq else None

    async def _keys_under(self, document: str, goal: int) -> list[Row]:
        """The keys of the oldest blocks that end at or before `goal`, some at a time."""
        blocks = self._mongo.log.find(_blocks(document, MinKey(), goal), {"c": 1}).sort("_id", 1).limit(COMPACTION_STEP)
        under = []
        async for block in blocks:
            check_kinds(document, block, _COUNTED)
            if block["_id"]["s"] + block["c"] - 1 <= goal:
                under.append(block["_id"])
        return under


def check_kinds(document: str, row: Row, kinds: Row) -> None:
    """Raises `StoreCorrupted` unless the fields that `kinds` names are there and of these types; they may be nested."""
    for field, kind in kinds.items():
        value = row.get(field)
        if isinstance(kind, dict) and isinstance(value, dict):
            check_kinds(document, value, kind)
        elif isinstance(kind, dict) or not isinstance(value, kind):
            raise StoreCorrupted(document, f"a row of it has no {field}, or one of the wrong kind")


def _entry(document: str, seq: int, row: Any, time_: int) -> Entry:
    # An adopted entry has a time of its own.
    if isinstance(row, list) and len(row) in (3, 4):
        update, author, device, own = row if len(row) == 4 else (*row, time_)
        if isinstance(update, bytes) and isinstance(author, str) and isinstance(device, str) and isinstance(own, int):
            return Entry(seq, update, author, device, own)
    raise StoreCorrupted(document, f"entry {seq} has a value of the wrong kind")


def key_range(document: str, first: Any, last: Any) -> Row:
    """A range of compound keys, in the order of the index on `_id`: the first field counts before the second."""
    return {"$gte": {"d": document, "s": first}, "$lte": {"d": document, "s": last}}


def _blocks(document: str, first: Any, last: Any) -> Row:
    return {"_id": key_range(document, first, last)}


def _continues(append: Put, end: End) -> bool:
    return append.expected == end.head and (end.head == 0 or append.lineage == end.lineage)


def _entries(append: Put) -> Sequence[Sequence[Any]]:
    """What a block holds of each entry: update, author, device; and the time, where it is not that of the block."""
    return append.drafts if isinstance(append, Append) else [entry[1:] for entry in append.entries]


def block_row(append: Put, rows: Iterable[Sequence[Any]], first: int, now: int, node: str) -> Row:
    """The row for `rows`, which begin at number `first`, written at `now` (milliseconds since 1970) by `node`."""
    entries = [list(row) for row in rows]
    return {
        "_id": {"d": append.document, "s": first},
        "c": len(entries),
        "l": append.lineage,
        "t": now,
        "n": node,
        "e": entries,
    }


def _pieces(append: Put) -> list[tuple[int, Sequence[Sequence[Any]]]]:
    """The append in pieces that fit in a block each, with the number of the first entry of each: nearly always one."""
    rows = _entries(append)
    pieces: list[tuple[int, Sequence[Sequence[Any]]]] = []
    start = size = 0
    for index, row in enumerate(rows):
        bytes_ = len(row[0]) + len(row[1]) + len(row[2]) + ENTRY_OVERHEAD
        if size and size + bytes_ > BLOCK_BYTES:
            pieces.append((append.expected + 1 + start, rows[start:index]))
            start, size = index, 0
        size += bytes_
    pieces.append((append.expected + 1 + start, rows[start:]))
    return pieces


def _hole(document: str, seq: int) -> StoreCorrupted:
    return StoreCorrupted(document, f"entry {seq} of the log is not there")
