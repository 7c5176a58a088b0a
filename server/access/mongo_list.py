"""Revocations in the MongoDB that the store is on: durable there, and learnt by every node on it.

See docs/design/revocation-and-rates.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from bson.errors import BSONError
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from server.access.codec import MalformedRevocation, decode
from server.access.errors import RevocationNotSpread, RevocationsFull
from server.access.revocations import MAX_LEARNT, Revocation, Revocations
from server.connected import Came, Connection
from server.stores.errors import StoreUnusable
from server.stores.mongo_database import Mongo, Row, watching
from server.stores.mongo_errors import translating

log = logging.getLogger(__name__)

COMPARE_SECONDS = 30.0
"""Between two comparisons of this node's list with that of MongoDB. A change stream tells of each new entry besides."""

RETRY_SECONDS = 1.0
"""Between two attempts to open the stream, and after a comparison: each stream that opens is followed by one."""

SPREAD_SECONDS = 3.0
"""How long who revokes waits for MongoDB: less than an election may take, since to send the same again costs nothing."""

CLOSE_SECONDS = 1.0
"""How long the end of a stream may take to tell a MongoDB that does not answer."""

PAGE = 1_000
"""Entries in one exchange."""

_NEW: list[Row] = [{"$match": {"operationType": {"$in": ["insert", "update", "replace"]}}}]

# A row that another hand wrote may be none that the driver can read.
_AWAY = (PyMongoError, BSONError, TimeoutError)


class _Ended(Exception):
    """The stream was ended by MongoDB: its collection is gone, or was renamed."""


async def open_mongo_list(mongo: Mongo, revocations: Revocations, now: Callable[[], float] = time.time) -> MongoList:
    """The list in `mongo`, with all that it holds learnt. Raises `StoreUnavailable`, or `StoreUnusable` for what is no list."""
    opened = MongoList(mongo, revocations, now)
    try:
        with translating():
            await opened.open()
    except BSONError as error:
        place = mongo.revocations.full_name
        raise StoreUnusable(place, f"cannot be read as the list of revocations ({error}); drop it to start with none") from None
    return opened


class MongoList:
    """A `Carrier` among the nodes of one MongoDB. Made by `open_mongo_list`, used on the loop of `mongo`, closed before it."""

    def __init__(self, mongo: Mongo, revocations: Revocations, now: Callable[[], float]) -> None:
        self._mongo = mongo
        self._revocations = revocations
        self._now = now
        self._streaming = False
        self._told = False
        self._compared = True
        self._due = asyncio.Event()
        self._connections: tuple[Connection, ...] = ()

    @property
    def healthy(self) -> bool:
        """See `Carrier.healthy`: whether the stream is open, and the last comparison succeeded."""
        running = bool(self._connections) and all(each.kept for each in self._connections)
        return running and self._streaming and self._compared

    async def open(self) -> None:
        """Learn what MongoDB holds, and go on doing so. Raises `PyMongoError` or `BSONError`."""
        await self._compare()
        pauses = (RETRY_SECONDS, RETRY_SECONDS)
        self._connections = (
            Connection(self._stream, self._went, (*_AWAY, _Ended), pauses),
            Connection(self._compare_when_due, self._not_compared, _AWAY, pauses),
        )

    async def spread(self, revocation: Revocation) -> None:
        """See `Carrier.spread`: a majority has the entry on disk, and every node on this MongoDB learns it.

        Where that fails, or takes longer than `SPREAD_SECONDS`, this node writes the entry when MongoDB is back.
        """
        try:
            async with asyncio.timeout(SPREAD_SECONDS):
                await self._write([revocation])
        except _AWAY as error:
            log.warning("revocation not written", extra={"reason": _reason(error)})
            # A MongoDB that was only slow opens no new stream, after which the entry would be written.
            self._due.set()
            hangs = isinstance(error, TimeoutError)
            raise RevocationNotSpread("MongoDB does not answer" if hangs else "MongoDB cannot be written to") from None

    async def close(self) -> None:
        """See `Carrier.close`."""
        # The driver tells MongoDB, and waits long for one that does not answer; closing the client ends that.
        await asyncio.gather(*(each.close(CLOSE_SECONDS) for each in self._connections))
        self._streaming = False

    # The stream

    async def _stream(self, came: Came) -> None:
        async with watching(self._mongo.revocations, _NEW, full_document="updateLookup") as stream:
            came()
            self._streaming, self._told = True, False
            # The stream begins now: what was written before is read, rather than resumed from where one was cut off.
            self._due.set()
            await self._listen(stream)

    def _went(self, error: BaseException) -> None:
        if not self._told:
            log.warning("revocations of other nodes come late", extra={"reason": _reason(error)})
        self._streaming, self._told = False, True

    async def _listen(self, stream: Any) -> None:
        while stream.alive:
            event = await stream.try_next()
            # An entry that was deleted meanwhile is not found any more.
            if event is not None and event["fullDocument"] is not None:
                try:
                    self._learn(event["fullDocument"])
                except RevocationsFull as error:
                    _say_full(error)
        raise _Ended("the list was removed")

    # Comparing

    async def _compare_when_due(self, came: Came) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(COMPARE_SECONDS):
                await self._due.wait()
        self._due.clear()
        await self._compare()
        came()
        self._compared = True

    def _not_compared(self, error: BaseException) -> None:
        if self._compared:
            log.warning("revocations of other nodes not read", extra={"reason": _reason(error)})
        self._compared = False

    async def _compare(self) -> None:
        """Learn what MongoDB holds, and write what it lacks: it may have been away, or another carrier told this node."""
        oldest = self._revocations.oldest()
        await self._mongo.revocations.delete_many({"at": {"$lte": oldest}})
        known: dict[str, float] = {}
        rows = self._mongo.revocations.find({"at": {"$gt": oldest}}, {"at": 1}, limit=MAX_LEARNT, batch_size=PAGE)
        try:
            async for row in rows:
                revocation = self._learn(row)
                if revocation is not None:
                    known[revocation.key] = revocation.at
        except RevocationsFull as error:
            _say_full(error)
        lacking = iter(self._revocations.beyond(known))
        while batch := list(islice(lacking, PAGE)):
            await self._write(batch)

    def _learn(self, row: Row) -> Revocation | None:
        """Take in what a row says; None when that is no revocation. Raises `RevocationsFull`."""
        key, at = row["_id"], row.get("at")
        try:
            if not isinstance(key, str) or not isinstance(at, float):
                raise MalformedRevocation("no text, or no time")
            revocation = decode(key.encode(), at, self._now())
        except MalformedRevocation as error:
            log.warning("revocation not understood", extra={"reason": str(error)})
            return None
        self._revocations.learn(revocation)
        return revocation

    async def _write(self, revocations: list[Revocation]) -> None:
        # Of two nodes that write one entry, the later time stands, whoever comes last.
        updates = [UpdateOne({"_id": each.key}, {"$max": {"at": each.at}}, upsert=True) for each in revocations]
        await self._mongo.revocations.bulk_write(updates, ordered=False)


def _say_full(error: RevocationsFull) -> None:
    log.error("revocation of another node not taken in", extra={"limit": error.limit})


def _reason(error: BaseException) -> str:
    # The drivers append the whole topology, and bulk errors the entries.
    return f"{type(error).__name__}: {str(error).partition(',')[0][:200]}"
