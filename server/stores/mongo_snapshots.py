"""Snapshots in MongoDB: compressed pieces under an upload's key, which a document's record refers to when all are there."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator

from bson import MaxKey, MinKey
from bson.objectid import ObjectId
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from server.stores.mongo_database import Mongo, Row
from sync.rooms.errors import StoreCorrupted, StoreUnavailable

ABANDONED_AFTER = 3600.0
"""Seconds for which an upload of another node is watched before it counts as left behind by a dead one."""


class Snapshots:
    """Keeps and reads snapshots. Methods raise `PyMongoError` beside what they name; the store translates."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._first_seen: dict[ObjectId, float] = {}

    async def keep(self, document: str, seq: int, lineage: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """Store the compressed `pieces` of a state of `size` bytes, and make them the document's snapshot at `seq`.

        Raises `StoreUnavailable` when it took so long that the pieces were swept away.
        """
        upload, parts = ObjectId(), 0
        await self._sweep()
        await self._mongo.uploads.insert_one({"_id": upload})
        async for piece in pieces:
            await self._mongo.parts.insert_one({"_id": {"u": upload, "p": parts}, "b": piece})
            parts += 1
        snapshot = {"seq": seq, "upload": upload, "parts": parts, "size": size}

        async def adopt(session: AsyncClientSession) -> ObjectId:
            """The upload that nobody refers to any more."""
            unswept = {"_id": upload, "swept": {"$exists": False}}
            if not (await self._mongo.uploads.delete_one(unswept, session=session)).deleted_count:
                raise StoreUnavailable("the snapshot took so long that its parts were swept away")
            before = await self._mongo.documents.find_one({"_id": document}, {"snapshot": 1}, session=session) or {}
            older = before.get("snapshot")
            unneeded: ObjectId = upload
            if older is None or older["seq"] < seq:
                await self._mongo.documents.find_one_and_update(
                    {"_id": document},
                    {"$set": {"snapshot": snapshot, "lineage": lineage}},
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                    session=session,
                )
                if older is None:
                    return ObjectId("0" * 24)
                unneeded = older["upload"]
            await self._mongo.uploads.insert_one({"_id": unneeded}, session=session)
            return unneeded

        try:
            unneeded = await self._mongo.transact(adopt)
        except DuplicateKeyError:
            # Two first records of one document at a time: now there is one.
            unneeded = await self._mongo.transact(adopt)
        await self._drop(unneeded)

    async def state(self, document: str, snapshot: Row) -> bytes | None:
        """The state that a record's `snapshot` refers to; None when parts are missing, as after a newer one was kept.

        Raises `StoreCorrupted` when what is there is damaged.
        """
        found = self._mongo.parts.find({"_id": self._parts_of(snapshot["upload"])}).sort("_id", 1)
        rows = [row async for row in found]
        if len(rows) != snapshot["parts"]:
            return None
        packed = [row["b"] for row in rows if isinstance(row.get("b"), bytes)]
        if len(packed) != len(rows):
            raise StoreCorrupted(document, "a part of the snapshot is of the wrong kind")
        try:
            state = b"".join([zlib.decompress(piece) for piece in packed])
        except zlib.error as error:
            raise StoreCorrupted(document, f"a part of the snapshot cannot be decompressed: {error}") from error
        if len(state) != snapshot["size"]:
            raise StoreCorrupted(document, f"the snapshot has {len(state)} of its {snapshot['size']} bytes")
        return state

    async def _drop(self, upload: ObjectId) -> None:
        await self._mongo.parts.delete_many({"_id": self._parts_of(upload)})
        await self._mongo.uploads.delete_one({"_id": upload})

    async def _sweep(self) -> None:
        """Remove uploads that nobody finished: those that this node has seen for a long time."""
        now = time.monotonic()
        present = [row["_id"] async for row in self._mongo.uploads.find({"_id": {"$gte": MinKey()}})]
        self._first_seen = {upload: self._first_seen.get(upload, now) for upload in present}
        for upload in [upload for upload, seen in self._first_seen.items() if now - seen > ABANDONED_AFTER]:
            # From here on it can no longer be adopted.
            await self._mongo.uploads.update_one({"_id": upload}, {"$set": {"swept": True}})
            await self._drop(upload)

    @staticmethod
    def _parts_of(upload: ObjectId) -> Row:
        return {"$gte": {"u": upload, "p": MinKey()}, "$lte": {"u": upload, "p": MaxKey()}}
