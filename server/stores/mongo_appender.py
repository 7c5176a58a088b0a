"""Appends to the log in MongoDB: blocks of entries behind one another, and what guards that they stay so.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from server.stores.mongo_blocks import Put, block_row, entries_of, intent_row, pieces_of
from server.stores.mongo_database import Moment, Mongo, Row
from server.stores.mongo_ends import End, Ends
from sync.rooms.errors import StoreUnavailable
from sync.rooms.ports import Appended, Conflict

LOOK_AGAIN = 0.02
WAITING_MOST = 32
"""Notes of lost turns that are kept, over all documents."""

DUPLICATE_KEY = 11000


class _Inserted(NamedTuple):
    """What came of writing blocks."""

    refused: set[str]
    """The documents whose blocks could not be written, since others are there."""
    row: Row
    """The one with the count of compactions up to which that is sure."""
    written: Moment


class Appender:
    """Appends to logs. Methods raise `PyMongoError` beside what they name; the store translates."""

    def __init__(self, mongo: Mongo, ends: Ends) -> None:
        self._mongo = mongo
        self._ends = ends
        # For what may be lost.
        self._meta = mongo.meta.with_options(write_concern=WriteConcern(w=1))
        # Of notes of lost turns: those that were there when we last looked.
        self._noted: set[str] = set()

    async def append(self, batch: Sequence[Put], intent: str) -> tuple[list[Appended | Conflict], Moment | None]:
        """`Store.append`, and `Store.adopt` of entries; an intent with the key `intent` is written before the first block.

        Returns the answers, and the moment after which the intent and its outcome are seen; None when no block was to be
        written, and so no intent either.
        """
        names = [append.document for append in batch]
        ends = dict(zip(names, await self._ends.of(batch), strict=True))
        behind = [append for append in batch if ends[append.document].admits(append)]
        now = time.time_ns() // 1_000_000
        # Until the outcome is certain nothing is known.
        self._ends.forget(names)
        inserted = await self._insert(behind, ends, now, intent) if behind else None
        refused, row = (inserted.refused, inserted.row) if inserted else (set[str](), Row())
        wanted = self._wanted(row) if behind else set()
        lost = {append.document for append in batch if not ends[append.document].admits(append)} | refused
        if lost:
            await self._note(lost)
        answers: list[Appended | Conflict] = []
        for append in batch:
            end = ends[append.document]
            if append.document not in lost:
                head = append.expected + len(entries_of(append))
                self._ends.learn(append.document, End(head, append.lineage, row.get("count", 0)))
                answers.append(Appended(head, append.document in wanted))
            else:
                if append.document in refused:
                    end = await self._end_beyond(append)
                answers.append(Conflict(end.head, end.lineage))
        return answers, inserted.written if inserted else None

    async def _insert(self, appends: Sequence[Put], ends: dict[str, End], now: int, intent: str) -> _Inserted:
        """Write the intent and the blocks."""
        logs = [self._rows(append, now) for append in appends]
        # In the order of the batch, which is that of the feed.
        announced = intent_row(intent, (row for rows in logs for row in rows))
        # In one order on all nodes: who is first is so at all documents that two nodes write.
        logs.sort(key=lambda rows: rows[0]["_id"]["d"])
        blocks = [row for rows in logs for row in rows]
        refused: set[str] = set()
        async with self._mongo.session() as session:
            if len(blocks) > len(appends):
                refused = await self._insert_large(announced, logs, session)
            else:
                rows = [announced, *blocks]
                while rows and (index := await self._insert_ordered(rows, session)) is not None:
                    refused.add(rows[index]["_id"]["d"])
                    rows = rows[index + 1 :]
            row = await self._mongo.meta.find_one({"_id": "compactions"}, session=session) or Row()
            count = row.get("count", 0)
            in_doubt = [a for a in appends if a.document not in refused and ends[a.document].compactions != count]
            if in_doubt:
                refused |= await self._take_back(in_doubt, session)
            self._ends.counted(count)
            return _Inserted(refused, row, Moment.of(session))

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

    async def _insert_large(self, intent: Row, logs: Sequence[list[Row]], session: AsyncClientSession) -> set[str]:
        """Insert the intent, and the blocks of each log: of several blocks all or none, in a transaction."""
        refused: set[str] = set()
        await self._mongo.log.insert_one(intent, session=session)
        for rows in logs:

            async def write(session: AsyncClientSession, rows: list[Row] = rows) -> None:
                # One by one: the message of a transaction's operation has at most 48 MB.
                for row in rows:
                    await self._mongo.log.insert_one(row, session=session)

            try:
                await self._mongo.transact_in(session, write)
            except DuplicateKeyError:
                refused.add(rows[0]["_id"]["d"])
        return refused

    def _rows(self, append: Put, now: int) -> list[Row]:
        return [block_row(append, rows, first, now, self._mongo.node) for first, rows in pieces_of(append)]

    async def _take_back(self, appends: Sequence[Put], session: AsyncClientSession) -> set[str]:
        """Remove blocks at or under their document's floor: they took the place of entries that were compacted."""
        floors = self._mongo.documents.find(
            {"_id": {"$in": [append.document for append in appends]}, "floor": {"$exists": True}}, {"floor": 1}, session=session
        )
        by_name = {row["_id"]: row["floor"] for row in await floors.to_list(None)}
        stale = [append for append in appends if append.expected < by_name.get(append.document, 0)]
        keys = [{"d": append.document, "s": first} for append in stale for first, _ in pieces_of(append)]
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
        while (end := await self._ends.end(append.document)).head <= append.expected:
            if time.monotonic() > deadline:
                raise StoreUnavailable("another append to the document is neither committed nor undone yet")
            await asyncio.sleep(LOOK_AGAIN)
        return end
