"""What a MongoDB must be, and a database in it, to hold the store; and what is made in it when it is missing."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from server.stores.errors import StoreUnusable
from server.stores.mongo_database import Mongo, Row, awaited

SCHEMA_VERSION = 1
NAMESPACE_EXISTS = 48
LEAST_WIRE_VERSION = 9
"""That of MongoDB 4.4, the first with `$bsonSize`, which change streams are asked for."""

COLLECTIONS = ("log", "documents", "parts", "uploads", "meta", "revocations")


def demand_guarantees(hello: Row, place: str) -> None:
    """Raises `StoreUnusable` for a server of which its answer to `hello` says that it cannot be the store."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StoreUnusable(
            place,
            "is a standalone mongod, which cannot make a majority durable; start it with --replSet and run rs.initiate()",
        )
    if hello["maxWireVersion"] < LEAST_WIRE_VERSION:
        raise StoreUnusable(place, "is a MongoDB older than 4.4; use a newer one")


async def demand_engine(client: AsyncMongoClient[Row], place: str) -> None:
    """Before anything is written, which may never end otherwise. Raises `StoreUnusable`."""
    try:
        engine = (await client.admin.command("serverStatus"))["storageEngine"]
    except OperationFailure:
        return  # this user may not ask; `demand_durability` finds out
    if not engine.get("persistent", True):
        raise StoreUnusable(place, f"keeps data with the storage engine {engine['name']}, which is not durable")


def demand_durability(stats: Row, place: str) -> None:
    """Raises `StoreUnusable` unless `collStats`, for which `readWrite` is enough, tells of WiredTiger, on every shard."""
    if not all("wiredTiger" in each for each in stats.get("shards", {"": stats}).values()):
        raise StoreUnusable(place, "keeps data with another storage engine than WiredTiger, which need not be durable")


async def demand_ours(database: Any, mongo: Mongo, place: str) -> None:
    """Raises `StoreUnusable` when what another program made has the name of one of our collections."""
    for each in await (await awaited(database.list_collections())).to_list(None):
        if each["name"] in COLLECTIONS and (each["type"] != "collection" or each["options"].get("capped")):
            kind = "capped collection" if each["type"] == "collection" else each["type"]
            raise StoreUnusable(place, f"has a {kind} {each['name']}, which cannot be used; name another database")
    if await mongo.meta.find_one({"_id": "schema"}) is None:
        # What is no revocation is passed over, or named, by whoever reads them.
        for name in (each for each in COLLECTIONS if each != "revocations"):
            # Another node may be the first just now, but writes no row before its schema.
            if await database[name].find_one({}, {"_id": 1}) and await mongo.meta.find_one({"_id": "schema"}) is None:
                raise StoreUnusable(place, f"has a collection {name} of another program; name another database")


async def prepare(database: Any, mongo: Mongo, place: str) -> str:
    """Make what is missing; the name of the changes feed. Raises `StoreUnusable` for the schema of another version."""
    there = await database.list_collection_names()
    await asyncio.gather(*[_create(database, name) for name in COLLECTIONS if name not in there])
    await mongo.documents.create_index("number", sparse=True)
    await mongo.revocations.create_index("at")
    schema = await mongo.meta.find_one({"_id": "schema"})
    if schema is None:
        await mongo.meta.update_one({"_id": "schema"}, {"$setOnInsert": {"version": SCHEMA_VERSION}}, upsert=True)
    elif schema["version"] != SCHEMA_VERSION:
        raise StoreUnusable(place, f"has schema {schema['version']} and this program knows {SCHEMA_VERSION}; use a newer one")
    while (feed := await mongo.meta.find_one({"_id": "feed"})) is None:
        await mongo.meta.update_one({"_id": "feed"}, {"$setOnInsert": {"name": secrets.token_hex(8)}}, upsert=True)
    return str(feed["name"])


async def _create(database: Any, name: str) -> None:
    try:
        await database.create_collection(name, check_exists=False)
    except OperationFailure as error:
        # Another node that starts now was faster.
        if error.code != NAMESPACE_EXISTS:
            raise
