"""Where the logs in MongoDB begin, once they do not begin at 1: compaction, and logs begun behind a number.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bson import MaxKey, MinKey
from pymongo.asynchronous.client_session import AsyncClientSession

from server.stores.mongo_blocks import COUNTED, blocks_between, check_kinds
from server.stores.mongo_database import Mongo, Row
from server.stores.mongo_ends import Ends
from sync.rooms.ports import Adoption

COMPACTION_STEP = 1000


class Floors:
    """Raises floors, under which there is no entry. Methods raise `PyMongoError`; the store translates."""

    def __init__(self, mongo: Mongo, ends: Ends) -> None:
        self._mongo = mongo
        self._ends = ends

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

        self._ends.forget([document])
        if not await self._mongo.transact(begin):
            return False
        if await self._has_block(document, None):
            # Of somebody who had counted the compactions before: the document is theirs.
            await self._mongo.documents.delete_one({"_id": document, "head": adoption.expected})
            return False
        return True

    async def compact(self, document: str, goal: int) -> int:
        """Raise the document's floor to `goal`, and delete the blocks under it. How many entries went."""
        end = await self._ends.end(document)
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

    async def _has_block(self, document: str, session: AsyncClientSession | None) -> bool:
        every = blocks_between(document, MinKey(), MaxKey())
        return await self._mongo.log.find_one(every, {"c": 1}, session=session) is not None

    async def _keys_under(self, document: str, goal: int) -> list[Row]:
        """The keys of the oldest blocks that end at or before `goal`, some at a time."""
        blocks = self._mongo.log.find(blocks_between(document, MinKey(), goal), {"c": 1}).sort("_id", 1).limit(COMPACTION_STEP)
        under = []
        async for block in blocks:
            check_kinds(document, block, COUNTED)
            if block["_id"]["s"] + block["c"] - 1 <= goal:
                under.append(block["_id"])
        return under
