"""The documents that a MongoDB has anything of: a walk over its blocks and records, beside the feed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bson import MaxKey

from server.archive.ports import Logged
from server.stores.mongo_blocks import INTENTS
from server.stores.mongo_database import Mongo
from server.stores.mongo_errors import translating


class MongoListing:
    """A `server.archive.ports.LogListing`. It owns the connection."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def documents_in_log(self) -> AsyncIterator[Logged]:
        """`LogListing.documents_in_log`. Blocks and records are read on the server, their keys alone come here."""
        with translating():
            behind_intents = {"_id": {"$gt": {"d": INTENTS, "s": MaxKey()}}}
            async for block in self._mongo.log.find(behind_intents, {"c": 1}).sort("_id", 1):
                yield Logged(block["_id"]["d"], _number(block["_id"]["s"]) + max(1, _number(block.get("c"))) - 1)
            async for record in self._mongo.documents.find({}, {"floor": 1, "snapshot.seq": 1}):
                snapshot = record.get("snapshot")
                kept = _number(snapshot.get("seq")) if isinstance(snapshot, dict) else 0
                yield Logged(record["_id"], max(_number(record.get("floor")), kept))

    async def close(self) -> None:
        """`LogListing.close`."""
        await self._mongo.close()


def _number(value: object) -> int:
    """What is no number is not counted here: whoever reads the document finds it."""
    return value if isinstance(value, int) else 0
