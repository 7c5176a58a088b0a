"""A MongoDB store's place for the contract tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymongo import MongoClient

from server.archive.report import Report
from server.archive.verify import verify_store
from server.config import Storage
from server.stores.mongo import MongoStore, open_mongo
from server.stores.mongo_client import MongoOptions
from server.stores.opening import open_listing
from sync.rooms.ports import Store
from tests.contracts.store.backend import StoreBackend
from tests.server.archive.kit import quiet


async def open_at(address: str) -> MongoStore:
    """Open the store at `address`, through PyMongo."""
    return await open_mongo(address)


async def open_through_motor(address: str) -> MongoStore:
    """Open the store at `address`, through Motor."""
    return await open_mongo(address, MongoOptions(driver="motor"))


class MongoBackend(StoreBackend):
    """A database of its own. `close` removes it."""

    def __init__(self, url: str, *, motor: bool = False) -> None:
        opener = open_through_motor if motor else open_at
        self.opener = f"{__name__}:{opener.__name__}"
        self._open = opener
        self.address = url
        self._client: MongoClient[dict[str, Any]] = MongoClient(url)
        self.database = self._client.get_default_database()

    async def open(self) -> Store:
        return await self._open(self.address)

    def close(self) -> None:
        """Remove the database."""
        self._client.drop_database(self.database.name)
        self._client.close()

    async def lose_entry(self, document: str, seq: int) -> None:
        for block in self.database.log.find({"_id.d": document}):
            index = seq - block["_id"]["s"]
            if 0 <= index < block["c"]:
                self.database.log.update_one({"_id": block["_id"]}, {"$unset": {f"e.{index}": 1}})
                return
        raise AssertionError("there is no such entry")

    async def lose_part(self, document: str, part: int) -> None:
        assert self.database.parts.delete_one({"_id": self._key(document, part)}).deleted_count == 1

    async def shorten_part(self, document: str, part: int) -> None:
        key = {"_id": self._key(document, part)}
        row = self.database.parts.find_one(key)
        assert row is not None
        self.database.parts.update_one(key, {"$set": {"b": row["b"][: len(row["b"]) // 2]}})

    def _key(self, document: str, part: int) -> dict[str, Any]:
        record = self.database.documents.find_one({"_id": document})
        assert record is not None
        return {"u": record["snapshot"]["upload"], "p": part}


async def verified(backend: MongoBackend, store: Store) -> Report:
    """What `verify` says of the store and of the logs in its database."""
    report, listing = quiet(), await open_listing(Storage(url=backend.address), Path())
    try:
        await verify_store(store, listing, report)
    finally:
        await listing.close()
    return report
