"""What the store on MongoDB takes: group commit beside one insert an edit, PyMongo beside Motor. No server, no sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from pymongo import AsyncMongoClient
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from bench import material
from bench.lab import Lab, Metric
from bench.peers import Peer
from server.bus.local import LocalBus
from server.stores.mongo import open_mongo
from server.stores.mongo_client import MongoOptions
from sync.rooms.limits import RoomLimits
from sync.rooms.registry import Rooms
from tests.harness.mongod import ReplicaSet

TITLE = "appends: 200 writers that each wait for their edit to be durable in MongoDB"
METRICS = (
    Metric("grouped", "edits/s through the rooms' group commit", "higher"),
    Metric("motor", "the same through Motor", "higher"),
    Metric("single", "edits/s as one insert each, same write concern", ""),
    Metric("times", "group commit over single inserts", "", 1),
)
WRITERS = 200

Write = Callable[[int, bytes], Awaitable[object]]
"""Makes an edit of a writer durable."""


def run(lab: Lab, peer: Peer) -> None:
    """Ours alone: the peers have no store that acknowledges."""
    if peer.name != "ebbtide":
        lab.run.note("has no append to be measured")
        return
    seconds = 1.0 if lab.quick else 5.0
    queue = material.queues(1, 20_000)[0]
    with ReplicaSet(lab.fresh()) as mongod:
        figures = lab.run.figures
        figures["single"] = asyncio.run(_single(mongod.url("single"), queue, seconds))
        figures["grouped"] = asyncio.run(_grouped(mongod.url("grouped"), "pymongo", queue, seconds))
        figures["motor"] = asyncio.run(_grouped(mongod.url("motor"), "motor", queue, seconds))
    assert figures["grouped"] is not None
    assert figures["single"] is not None
    figures["times"] = figures["grouped"] / figures["single"]
    lab.run.note("this process is the client: its core limits all of these")


async def _grouped(url: str, driver: str, queue: list[bytes], seconds: float) -> float:
    store = await open_mongo(url, MongoOptions(driver))
    rooms = Rooms(store, LocalBus().connect(), RoomLimits())
    opened = [rooms.open(f"document-{number}") for number in range(WRITERS)]
    try:
        return await _rate(lambda writer, edit: opened[writer].push([edit], "ada", "phone", [None]), queue, seconds)
    finally:
        await rooms.close()
        await store.close()


async def _single(url: str, queue: list[bytes], seconds: float) -> float:
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(url, maxPoolSize=50)
    try:
        entries = client.get_default_database().get_collection(
            "entries", write_concern=WriteConcern(w="majority", j=True), read_concern=ReadConcern("majority")
        )
        return await _rate(lambda writer, edit: entries.insert_one({"d": writer, "u": edit, "a": "ada"}), queue, seconds)
    finally:
        await client.close()


async def _rate(write: Write, queue: list[bytes], seconds: float) -> float:
    """Edits a second of all writers, each of which waits for one before it sends the next."""
    done = 0

    async def writer(number: int, end: float) -> None:
        nonlocal done
        for edit in queue:
            if time.perf_counter() > end:
                return
            await write(number, edit)
            done += 1

    await asyncio.gather(*[write(number, queue[0]) for number in range(WRITERS)])
    start = time.perf_counter()
    await asyncio.gather(*[writer(number, start + seconds) for number in range(WRITERS)])
    return done / (time.perf_counter() - start)
