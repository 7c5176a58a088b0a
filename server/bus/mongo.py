"""News from the log itself, by a change stream of MongoDB: see docs/design/change-streams.md."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from pymongo.errors import ConnectionFailure, CursorNotFound, PyMongoError

from server.bus.listeners import Listeners
from server.bus.news import LARGEST
from server.connected import Came, Connection
from server.figures import Figure
from server.stores.mongo_blocks import INTENTS
from server.stores.mongo_database import Mongo, Row, watching
from sync.rooms.ports import Draft, Listener, NewEntries, News

log = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""How long the end of a stream may take to tell a MongoDB that does not answer."""

UNTOLD = 64
"""Blocks read and not told at most; MongoDB keeps the others."""


class _Read(NamedTuple):
    """A place in the stream, and the block that was read before it, if it is of an open document."""

    token: Row | None
    block: Row | None


class _Ended(Exception):
    """The stream was ended by MongoDB: its collection is gone, or was renamed."""


_AWAY = (PyMongoError, _Ended)


class MongoBus:
    """A node's end of the bus that the log is; see `server.bus.ports.NodeBus`.

    Other nodes hear of what this one appends because it is in the log, so `publish` does nothing, and presence is not
    carried. News comes between `start` and `stop`. To be used on the loop of `mongo`, and closed before it.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._listeners = Listeners()
        self._connection: Connection | None = None
        self._token: Row | None = None
        self._said = False
        self.open = False
        """Whether a stream is open just now."""
        self.opened = 0
        """Streams opened so far, those that went on where another was cut off included."""

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self._listeners.subscribe(document, listener)

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self._listeners.unsubscribe(document, listener)

    def start(self) -> None:
        """Tell what is appended from about now on. Idempotent."""
        if self._connection is None:
            self._connection = Connection(self._stream, self._went, _AWAY)

    async def stop(self) -> None:
        """Tell no more, and cost MongoDB nothing. Idempotent; `start` may follow."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # The driver tells MongoDB, and waits long for one that does not answer; closing the client ends that.
            await connection.close(CLOSE_SECONDS)
        self.open = False
        # After a while others have told what comes next, and a stream that begins anew need not repeat it.
        self._token = None

    def figures(self) -> Sequence[Figure]:
        """See `NodeBus.figures`."""
        return [Figure("change_stream_open", "Whether news comes by a change stream of MongoDB (1).", lambda: self.open)]

    async def close(self) -> None:
        """See `Bus.close`."""
        self._listeners.clear()
        await self.stop()

    async def _stream(self, came: Came) -> None:
        async with watching(self._mongo.log, _others_blocks(self._mongo.node), self._token) as stream:
            self._came()
            self._token = stream.resume_token
            came()
            untold: asyncio.Queue[_Read] = asyncio.Queue(UNTOLD)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(stream, untold))
                tasks.create_task(self._tell(untold))

    def _came(self) -> None:
        log.info("change stream open", extra={"resumed": self._token is not None})
        self.open = True
        self.opened += 1
        self._said = False

    def _went(self, error: BaseException) -> None:
        goes_on = _can_go_on(error)
        # Once for each time that it is away, and once more when what was between is lost.
        if not self._said or (self._token is not None and not goes_on):
            log.warning(
                "change stream cut off, nodes converge by asking the store",
                extra={"reason": f"{type(error).__name__}: {str(error).partition(',')[0][:200]}", "resumes": goes_on},
            )
        self._said = True
        self.open = False
        if not goes_on:
            self._token = None

    async def _read(self, stream: Any, untold: asyncio.Queue[_Read]) -> None:
        while stream.alive:
            event = await stream.try_next()
            if event is None:
                if untold.empty():
                    await untold.put(_Read(stream.resume_token, None))
            elif event["key"]["d"] in self._listeners:
                await untold.put(_Read(event["_id"], event))
        raise _Ended("the log was removed")

    async def _tell(self, untold: asyncio.Queue[_Read]) -> None:
        while True:
            reads = [await untold.get()]
            while not untold.empty():
                reads.append(untold.get_nowait())
            blocks = [read.block for read in reads if read.block is not None]
            floors = await self._floors([block["key"]["d"] for block in blocks]) if blocks else {}
            for block in blocks:
                document = block["key"]["d"]
                self._listeners.tell(document, _news(block, floors.get(document, 0)))
            self._token = reads[-1].token

    async def _floors(self, documents: list[str]) -> dict[str, int]:
        """For those of the documents that were compacted, the number up to which entries are gone."""
        wanted = {"_id": {"$in": list(dict.fromkeys(documents))}, "floor": {"$exists": True}}
        return {row["_id"]: row["floor"] async for row in self._mongo.documents.find(wanted, {"floor": 1})}


def _others_blocks(node: str) -> list[Row]:
    """A pipeline that leaves of the log's changes the new blocks of other nodes, without entries where they are large."""
    return [
        {
            "$match": {
                "operationType": "insert",
                "documentKey._id.d": {"$ne": INTENTS},
                "fullDocument.n": {"$ne": node},
            }
        },
        {
            "$project": {
                "key": "$documentKey._id",
                "count": "$fullDocument.c",
                "lineage": "$fullDocument.l",
                "entries": {"$cond": [{"$gt": [{"$bsonSize": "$fullDocument"}, LARGEST]}, "$$REMOVE", "$fullDocument.e"]},
            }
        },
    ]


def _news(block: Row, floor: int) -> NewEntries:
    """What to tell of a block, given the document's floor as it was read after the block.

    A block at or under the floor is about to be taken back, or is gone already: only a question to the store can tell.
    """
    after, count = block["key"]["s"] - 1, block["count"]
    if "entries" not in block or after < floor:
        return NewEntries(after + count, [], block["lineage"])
    return NewEntries(after, [Draft(*entry[:3]) for entry in block["entries"]], block["lineage"])


def _can_go_on(error: BaseException) -> bool:
    """Whether a stream that ended so can be taken up where it was cut off, as far as the driver knows."""
    return isinstance(error, ConnectionFailure | CursorNotFound) or (
        isinstance(error, PyMongoError) and error.has_error_label("ResumableChangeStreamError")
    )
