"""The way to MongoDB: the address, how a node talks to it, and the guarantees that are asked for."""

from __future__ import annotations

import logging
import re
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from server.addresses import without_secrets
from server.stores.errors import StoreUnusable
from server.stores.mongo_database import Mongo, Row, awaited
from server.stores.mongo_demands import COLLECTIONS, demand_durability, demand_engine, demand_guarantees, demand_ours, prepare
from server.stores.mongo_errors import advice_on, line_of, no_outage, reason_of
from sync.rooms.errors import StoreUnavailable

AUTHENTICATION_FAILED = 18
UNAUTHORIZED = 13

RESERVED = ("admin", "config", "local")
"""Databases of MongoDB's own: change streams, or transactions, are not to be had there."""

MOST_NAME_BYTES = 63
"""Of a database, to MongoDB. The driver refuses what else is wrong with a name."""

HEARTBEAT_MS = 1000
"""How often the members of the set are asked how they are, while nothing has changed."""


class MongoOptions(NamedTuple):
    """How a node talks to MongoDB. `timeout` is in seconds: for finding a primary, connecting, and a place in the pool."""

    driver: str = "pymongo"
    """`pymongo` or `motor`."""
    pool_most: int = 50
    pool_least: int = 10
    timeout: float = 5.0
    lagging_reads: str = "primary"
    """Where listings that may lag are read: `primary` or `secondary`."""


async def connect(url: str, options: MongoOptions, *, must_exist: bool = False) -> Mongo:
    """Connect to the database that `url` names, and make its collections and indexes.

    Raises `StoreUnusable` for an address or a server with which no store is possible, and with `must_exist` for a database
    that holds no store, in which nothing is made then. Raises `StoreUnavailable` when no primary answers in time.
    """
    place = without_secrets(url)
    if "@" in "".join(re.split("[/?]", url.partition("://")[2], maxsplit=1)[1:]):
        # The end of a password that was cut in two: what the driver says of it may be a part of it.
        raise StoreUnusable(place, "is no address of a MongoDB; write %40 %2F %3A %3F for @ / : ? in a password")
    with _reading(place):
        address = parse_uri(url, validate=True, warn=False)
    name = address["database"]
    if not name:
        raise StoreUnusable(place, "names no database; write mongodb://HOST/DATABASE")
    if address["collection"]:
        raise StoreUnusable(place, "names a database with a dot, which MongoDB does not have; write mongodb://HOST/DATABASE")
    if len(name.encode()) > MOST_NAME_BYTES:
        raise StoreUnusable(place, f"names a database with more than {MOST_NAME_BYTES} bytes; write mongodb://HOST/DATABASE")
    if name in RESERVED:
        raise StoreUnusable(place, "names a database of MongoDB's own; write mongodb://HOST/DATABASE with another")
    durable = WriteConcern(w="majority", j=True, wtimeout=round(2000 * options.timeout))
    with _reading(place):
        client = _client(url, options)
        try:
            database = client.get_database(
                name,
                codec_options=CodecOptions(),
                read_preference=ReadPreference.PRIMARY,
                write_concern=durable,
                read_concern=ReadConcern("majority"),
            )
        except BaseException:
            await awaited(client.close())
            raise
    log, documents, parts, uploads, meta, revocations = (database.get_collection(each) for each in COLLECTIONS)
    listing = documents
    if options.lagging_reads == "secondary":
        listing = documents.with_options(read_preference=ReadPreference.SECONDARY_PREFERRED)
    node = secrets.token_hex(8)
    mongo = Mongo(client, node, log, documents, parts, uploads, meta, revocations, listing, durable, options.timeout)
    try:
        demand_guarantees(await client.admin.command("hello"), place)
        await demand_engine(client, place)
        await demand_ours(database, mongo, place)
        if must_exist and await mongo.meta.find_one({"_id": "schema"}) is None:
            raise StoreUnusable(place, "there is no store in this database; correct its name")
        feed = await prepare(database, mongo, place)
        demand_durability(await database.command("collStats", "log"), place)
    except StoreUnusable:
        await mongo.close()
        raise
    except PyMongoError as error:
        await mongo.close()
        if isinstance(error, OperationFailure) and error.code in (AUTHENTICATION_FAILED, UNAUTHORIZED):
            raise StoreUnusable(place, "refuses the user or the password; see the rights in docs/operations.md") from None
        if isinstance(error, ConfigurationError):
            raise StoreUnusable(place, f"cannot be used: {line_of(error)}") from None
        raise StoreUnavailable(f"{place}: {reason_of(error)}; {advice_on(error)}") from None
    except BaseException:
        await mongo.close()
        raise
    return mongo._replace(feed=feed)


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Let the driver read the address: raises `StoreUnusable` for whatever it says of it."""
    try:
        with warnings.catch_warnings():
            # What it warns of, it leaves out.
            warnings.simplefilter("error", UserWarning)
            yield
    except OSError as error:
        raise StoreUnusable(place, f"names a file that cannot be used ({error.strerror}); correct --store") from None
    except (PyMongoError, UserWarning, ValueError) as error:
        raise StoreUnusable(place, f"is no address of a MongoDB: {line_of(error)}") from None


def _client(url: str, options: MongoOptions) -> AsyncMongoClient[Row]:
    logging.getLogger("pymongo.client").addFilter(no_outage)
    milliseconds = round(1000 * options.timeout)
    # Keywords win over the address: nobody weakens what an acknowledgement means by writing ?w=1 there.
    settings: dict[str, Any] = {
        "appname": "ebbtide",
        "connectTimeoutMS": milliseconds,
        # A member that hangs is noticed, and what waits for it is let go, after this and the time to connect.
        "heartbeatFrequencyMS": HEARTBEAT_MS,
        "journal": True,
        "maxPoolSize": options.pool_most,
        "minPoolSize": min(options.pool_least, options.pool_most),
        "readConcernLevel": "majority",
        "readPreference": "primary",
        "retryReads": True,
        "retryWrites": True,
        "serverSelectionTimeoutMS": milliseconds,
        "socketTimeoutMS": 3 * milliseconds,
        "w": "majority",
        "waitQueueTimeoutMS": milliseconds,
        "wTimeoutMS": 2 * milliseconds,
    }
    if options.driver == "motor":
        try:
            from motor.motor_asyncio import AsyncIOMotorClient
        except ImportError:
            raise StoreUnusable(
                without_secrets(url), "is to be used through Motor, which is not installed; pip install motor"
            ) from None
        # The same methods by the same names; `awaited` covers where one gives an awaitable and the other does not.
        return cast("AsyncMongoClient[Row]", AsyncIOMotorClient(url, **settings))
    return AsyncMongoClient(url, **settings)
