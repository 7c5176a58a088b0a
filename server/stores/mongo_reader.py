"""Reads the log in MongoDB: blocks of entries, which must follow one another.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from bson import MaxKey, MinKey

from server.stores.mongo_blocks import BLOCK, blocks_between, check_kinds, entry_from
from server.stores.mongo_database import Mongo, Row
from server.stores.mongo_ends import End, Ends
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Entry


class LogReader:
    """Reads logs. Methods raise `PyMongoError` beside what they name; the store translates."""

    def __init__(self, mongo: Mongo, ends: Ends) -> None:
        self._mongo = mongo
        self._ends = ends

    async def load(self, document: str, record: Row) -> tuple[End, list[Entry]]:
        """Where the log ends, and the entries after the snapshot of the document's `record`.

        Raises `StoreCorrupted` when entries are missing between them or before the head that the record knows.
        """
        compactions = self._ends.compactions
        seq = record["snapshot"]["seq"] if "snapshot" in record else 0
        lineage, entries = await self._read(document, seq, None, record.get("head", 0))
        end = End(entries[-1].seq if entries else seq, lineage or record.get("lineage", ""), compactions)
        self._ends.learn(document, end)
        return end, entries

    async def read(self, document: str, after: int, limit: int, head: int) -> list[Entry]:
        """Up to `limit` entries above `after`, which is not under the floor. `head` is a number known to be there.

        Raises `StoreCorrupted` when entries are missing between them or before `head`.
        """
        return (await self._read(document, after, limit, head))[1]

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
                entries.append(entry_from(document, seq, row, block["t"]))
                seq += 1
                if len(entries) == limit:
                    return lineage, entries
        if seq <= head:
            raise _hole(document, seq)
        return lineage, entries

    async def _blocks_from(self, document: str, seq: int, limit: int | None) -> AsyncIterator[Row]:
        """The block that has entry `seq`, if any, and those behind it."""
        looked = seq <= 1
        cursor = self._mongo.log.find(blocks_between(document, seq, MaxKey())).sort("_id", 1)
        async for block in cursor if limit is None else cursor.limit(limit):
            check_kinds(document, block, BLOCK)
            # Who reads on from where an append ended, as most do, needs no second question.
            if not looked and block["_id"]["s"] > seq and (begun := await self._begun_before(document, seq)) is not None:
                yield begun
            looked = True
            yield block
        if not looked and (begun := await self._begun_before(document, seq)) is not None:
            yield begun

    async def _begun_before(self, document: str, seq: int) -> Row | None:
        """The block that has entry `seq` and begins at or before it."""
        block: Row | None = await self._mongo.log.find_one(blocks_between(document, MinKey(), seq), sort=[("_id", -1)])
        if block is None:
            return None
        check_kinds(document, block, BLOCK)
        return block if block["_id"]["s"] + block["c"] > seq else None


def _hole(document: str, seq: int) -> StoreCorrupted:
    return StoreCorrupted(document, f"entry {seq} of the log is not there")
