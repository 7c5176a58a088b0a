"""Where the logs in MongoDB end, as this node knows it or looks it up.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bson import MaxKey, MinKey

from server.stores.mongo_blocks import END, Put, blocks_between, check_kinds
from server.stores.mongo_database import Mongo, Row

KNOWN_MOST = 100_000
CHUNK = 1000
"""Documents asked for in one query."""

LOOK_UPS = 20
"""Logs whose last block is looked for at a time: an append of thousands of documents leaves connections to others."""


class End(NamedTuple):
    """Where a log ended at some time: its head then, its lineage, and the count of compactions before we looked."""

    head: int
    lineage: str
    compactions: int

    def admits(self, append: Put) -> bool:
        """Whether the append goes on from here."""
        return append.expected == self.head and (self.head == 0 or append.lineage == self.lineage)


class Ends:
    """What a node knows of the ends of logs. Methods raise `PyMongoError` beside what they name; the store translates."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._known: dict[str, End] = {}
        self.compactions = 0
        """The highest count of compactions that this node has read. An end has the count from before it was looked for."""

    async def of(self, batch: Sequence[Put]) -> list[End]:
        """Where each of the logs ends: looked up, unless it is known to end where the append expects it."""
        ends: dict[str, End] = {}
        for append in batch:
            known = self._known.get(append.document)
            if known is not None and known.admits(append):
                ends[append.document] = known
        unknown = [append.document for append in batch if append.document not in ends]
        ends.update(zip(unknown, await self._look_up(unknown), strict=True))
        return [ends[append.document] for append in batch]

    async def end(self, document: str) -> End:
        """Where the log ends, as a majority has it. Of a document that does not exist: number 0 and lineage ""."""
        return (await self._look_up([document]))[0]

    def forget(self, documents: Iterable[str]) -> None:
        """Know nothing more of these: what is about to be written may end their logs elsewhere."""
        for document in documents:
            self._known.pop(document, None)

    def counted(self, compactions: int) -> None:
        """Take in a count of compactions that was read."""
        self.compactions = max(self.compactions, compactions)

    def learn(self, document: str, end: End) -> None:
        """Know that the log ended there."""
        if len(self._known) >= KNOWN_MOST:
            self._known.clear()
        self._known[document] = end

    async def _look_up(self, documents: Sequence[str]) -> list[End]:
        """`end` of each."""
        compactions = self.compactions
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
                check_kinds(document, last, END)
                head, lineage = max(head, last["_id"]["s"] + last["c"] - 1), last["l"]
            ends.append(End(head, lineage, compactions))
            self.learn(document, ends[-1])
        return ends

    async def _last(self, document: str) -> Row | None:
        """The key, count and lineage of the last block."""
        found: Row | None = await self._mongo.log.find_one(
            blocks_between(document, MinKey(), MaxKey()), {"c": 1, "l": 1}, sort=[("_id", -1)]
        )
        return found
