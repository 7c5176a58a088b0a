"""The connection to MongoDB: the guarantees that are asked for, the collections, and what the driver's errors mean.

The reasons for the collections are in docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import secrets
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple, TypeVar, cast

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from server.addresses import without_secrets
from server.stores.errors import StoreUnusable
from sync.rooms.errors import StoreUnavailable

SCHEMA_VERSION = 1
AUTHENTICATION_FAILED = 18
UNAUTHORIZED = 13
NAMESPACE_EXISTS = 48
LEAST_WIRE_VERSION = 9
"""That of MongoDB 4.4, the first with `$bsonSize`, which change streams are asked for."""

RESERVED = ("admin", "config", "local")
"""Databases of MongoDB's own: change streams, or transactions, are not to be had there."""

COLLECTIONS = ("log", "documents", "parts", "uploads", "meta", "revocations")
TRANSACTION_ATTEMPTS = 50
CONFLICT_PAUSE = 0.002
"""Seconds before a transaction that met another one is tried again, growing with every attempt."""

STREAM_WAIT_SECONDS = 1.0
"""How long MongoDB holds back an answer of a change stream that has no news."""

HEARTBEAT_MS = 1000
"""How often the members of the set are asked how they are, while nothing has changed."""

Row = dict[str, Any]
T = TypeVar("T")


class MongoOptions(NamedTuple):
    """How a node talks to MongoDB. `timeout` is in seconds: for finding a primary, connecting, and a place in the pool."""

    driver: str = "pymongo"
    """`pymongo` or `motor`."""
    pool_most: int = 50
    pool_least: int = 10
    timeout: float = 5.0
    lagging_reads: str = "primary"
    """Where listings that may lag are read: `primary` or `secondary`."""


class Mongo(NamedTuple):
    """An open database. All collections write with `w: majority, j: true` and read with `majority` from the primary."""

    client: AsyncMongoClient[Row]
    node: str
    """The name of this end of it, by which its rows are told from those of others."""
    log: AsyncCollection[Row]
    documents: AsyncCollection[Row]
    parts: AsyncCollection[Row]
    uploads: AsyncCollection[Row]
    meta: AsyncCollection[Row]
    revocations: AsyncCollection[Row]
    listing: AsyncCollection[Row]
    """`documents` as listings may read it."""
    durable: WriteConcern
    timeout: float
    feed: str = ""
    """The name of the changes feed, which the database keeps."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncClientSession]:
        """A causally consistent session."""
        async with await awaited(self.client.start_session()) as session:
            yield session

    async def transact(self, work: Callable[[AsyncClientSession], Awaitable[T]], attempts: int = TRANSACTION_ATTEMPTS) -> T:
        """Run `work` in a transaction, again when it met another one; returns once it is durable.

        `work` may run several times. Raises `PyMongoError`; then the outcome may be unknown.
        """
        async with self.session() as session:
            for attempt in range(1, attempts + 1):
                await awaited(session.start_transaction(ReadConcern("snapshot"), self.durable, ReadPreference.PRIMARY))
                try:
                    result = await work(session)
                    await self._commit(session)
                except PyMongoError as error:
                    if session.in_transaction:
                        await session.abort_transaction()
                    if not error.has_error_label("TransientTransactionError") or attempt == attempts:
                        raise
                except BaseException:
                    if session.in_transaction:
                        await session.abort_transaction()
                    raise
                else:
                    return result
                await asyncio.sleep(CONFLICT_PAUSE * attempt)
            raise AssertionError("unreachable")

    async def _commit(self, session: AsyncClientSession) -> None:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label("UnknownTransactionCommitResult"):
                raise
            # Asking again is idempotent, and finds out.
            await session.commit_transaction()

    async def close(self) -> None:
        """Close the connections."""
        await awaited(self.client.close())


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
    if name in RESERVED:
        raise StoreUnusable(place, "names a database of MongoDB's own; write mongodb://HOST/DATABASE with another")
    with _reading(place):
        client = _client(url, options)
    durable = WriteConcern(w="majority", j=True, wtimeout=round(2000 * options.timeout))
    database = client.get_database(
        name,
        codec_options=CodecOptions(),
        read_preference=ReadPreference.PRIMARY,
        write_concern=durable,
        read_concern=ReadConcern("majority"),
    )
    log, documents, parts, uploads, meta, revocations = (database.get_collection(each) for each in COLLECTIONS)
    listing = documents
    if options.lagging_reads == "secondary":
        listing = documents.with_options(read_preference=ReadPreference.SECONDARY_PREFERRED)
    node = secrets.token_hex(8)
    mongo = Mongo(client, node, log, documents, parts, uploads, meta, revocations, listing, durable, options.timeout)
    try:
        demand_guarantees(await client.admin.command("hello"), place)
        await _demand_engine(client, place)
        await _demand_ours(database, mongo, place)
        if must_exist and await mongo.meta.find_one({"_id": "schema"}) is None:
            raise StoreUnusable(place, "there is no store in this database; correct its name")
        feed = await _prepare(database, mongo, place)
        demand_durability(await database.command("collStats", "log"), place)
    except StoreUnusable:
        await mongo.close()
        raise
    except PyMongoError as error:
        await mongo.close()
        if isinstance(error, OperationFailure) and error.code in (AUTHENTICATION_FAILED, UNAUTHORIZED):
            raise StoreUnusable(place, "refuses the user or the password; see the rights in docs/operations.md") from None
        if isinstance(error, ConfigurationError):
            raise StoreUnusable(place, f"cannot be used: {_line(error)}") from None
        raise StoreUnavailable(f"{place}: {_reason(error)}; see that it runs there, or correct --store") from None
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
        raise StoreUnusable(place, f"is no address of a MongoDB: {_line(error)}") from None


def _client(url: str, options: MongoOptions) -> AsyncMongoClient[Row]:
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


def demand_guarantees(hello: Row, place: str) -> None:
    """Raises `StoreUnusable` for a server of which its answer to `hello` says that it cannot be the store."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StoreUnusable(
            place,
            "is a standalone mongod, which cannot make a majority durable; start it with --replSet and run rs.initiate()",
        )
    if hello["maxWireVersion"] < LEAST_WIRE_VERSION:
        raise StoreUnusable(place, "is a MongoDB older than 4.4; use a newer one")


async def _demand_engine(client: AsyncMongoClient[Row], place: str) -> None:
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


async def _demand_ours(database: Any, mongo: Mongo, place: str) -> None:
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


async def _prepare(database: Any, mongo: Mongo, place: str) -> str:
    """Make what is missing; the name of the changes feed."""
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


@contextmanager
def translating() -> Iterator[None]:
    """Let no `PyMongoError` out: raises `StoreUnavailable` in its place."""
    try:
        yield
    except PyMongoError as error:
        raise StoreUnavailable(_reason(error)) from error


def _reason(error: PyMongoError) -> str:
    if isinstance(error, ServerSelectionTimeoutError):
        return f"no MongoDB that can be written to answers: {_line(error)}"
    if isinstance(error, ConnectionFailure):
        return f"the connection to MongoDB failed: {_line(error)}"
    return f"MongoDB refused: {_line(error)}"


def _line(error: Exception) -> str:
    # The drivers append the whole topology, and bulk errors the documents.
    line = str(error).partition("\n")[0].partition(" (configured timeouts")[0]
    for noise in (", Timeout:", ", full error:"):
        line = line.partition(noise)[0]
    return line[:200]


async def awaited(result: Any) -> Any:
    """What Motor gives awaitable, PyMongo gives at once, or the other way round."""
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def watching(
    collection: AsyncCollection[Row], pipeline: list[Row], resume_after: Row | None = None, full_document: str | None = None
) -> AsyncIterator[Any]:
    """A change stream, open, to be read with `try_next`. Raises `PyMongoError`."""
    stream = await awaited(
        collection.watch(
            pipeline,
            full_document=full_document,
            resume_after=resume_after,
            max_await_time_ms=round(1000 * STREAM_WAIT_SECONDS),
        )
    )
    try:
        # Motor opens it here, PyMongo did so above.
        await stream.__aenter__()
        yield stream
    finally:
        with suppress(PyMongoError):
            await stream.close()
