"""Two nodes with rooms, on one MongoDB, which never ask the store for heads: what crosses, came by a bus."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from server.bus.either import EitherBus
from server.bus.mongo import MongoBus
from server.bus.redis import open_redis
from server.stores.mongo import MongoStore
from server.stores.mongo_client import MongoOptions, connect
from sync.protocol.messages import SyncStep2, SyncUpdate
from sync.rooms.limits import RoomLimits
from sync.rooms.registry import Rooms
from tests.harness.redis_server import RedisServer
from tests.sync.rooms.kit import Client

PATIENCE = 30.0
NEVER = 1e6
LIMITS = RoomLimits(poll_interval=NEVER, idle_after=NEVER)


class Node:
    """A node, with a person who has the document `d` open there. Redis is optional."""

    def __init__(self, store: MongoStore, stream: MongoBus, either: EitherBus | None) -> None:
        self.store = store
        self.stream = stream
        self.either = either
        self.bus = either or stream
        self.rooms = Rooms(store, self.bus, LIMITS)
        self.person = Client(self.rooms.open("d"))

    @classmethod
    async def begin(cls, url: str, redis: str | None, driver: str = "pymongo") -> Node:
        mongo = await connect(url, MongoOptions(driver=driver))
        stream = MongoBus(mongo)
        if redis is None:
            stream.start()
            node = cls(MongoStore(mongo), stream, None)
        else:
            either = EitherBus(await open_redis(redis, key="k"), stream, linger=0.5)
            node = cls(MongoStore(mongo), stream, either)
        await node.person.join()
        return node

    async def streams(self, *, open_: bool = True) -> None:
        """Return when the stream is open, or when it is not."""
        async with asyncio.timeout(PATIENCE):
            while self.stream.open is not open_:
                await asyncio.sleep(0.01)

    async def on_redis(self) -> None:
        """Return when news comes by Redis and by nothing else."""
        assert self.either is not None
        await self.either.redis.until(healthy=True)
        await self.either.redis.settled()
        await self.streams(open_=False)

    async def writes(self, text: str) -> None:
        """Append to what the person sees; returns when that is durable."""
        for message in [*self.person.outlet.of(SyncStep2), *self.person.outlet.of(SyncUpdate)]:
            self.person.doc.apply_update(message.update)
        update = self.person.edit(text)
        self.person.send(update)
        await self.person.acknowledged(update)

    async def close(self) -> None:
        await self.rooms.close()
        await self.bus.close()
        await self.store.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as redis:
        yield redis


@pytest.fixture
async def nodes(url: str, redis: RedisServer) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes with Redis."""
    nodes = (await Node.begin(url, redis.url), await Node.begin(url, redis.url))
    for node in nodes:
        await node.on_redis()
    yield nodes
    for node in nodes:
        await node.close()


async def edits_cross(one: Node, two: Node, text: str) -> None:
    """Each writes, and reads what the other wrote."""
    before = one.person.text
    await one.writes(text)
    await two.person.holds(before + text)
    await two.writes(text.upper())
    await one.person.holds(before + text + text.upper())


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_edits_cross_where_redis_is_not_configured(url: str, driver: str) -> None:
    one, two = await Node.begin(url, None, driver), await Node.begin(url, None, driver)
    for node in (one, two):
        await node.streams()
    await edits_cross(one, two, "a")
    await edits_cross(one, two, "b")
    for node in (one, two):
        await node.close()


async def test_edits_cross_where_redis_was_never_there(url: str, tmp_path: Path) -> None:
    absent = RedisServer(tmp_path)
    one, two = await Node.begin(url, absent.url), await Node.begin(url, absent.url)
    for node in (one, two):
        await node.streams()
    await edits_cross(one, two, "a")
    for node in (one, two):
        await node.close()


async def test_its_figures_say_which_way_news_comes(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    one, _ = nodes
    assert one.either is not None
    figures = {figure.name: figure.read for figure in one.either.figures()}
    assert (figures["bus_healthy"](), figures["change_stream_open"]()) == (True, False)
    redis.kill()
    await one.streams()
    assert (figures["bus_healthy"](), figures["change_stream_open"]()) == (False, True)


@pytest.mark.parametrize("way", ["killed", "stopped"])
async def test_the_stream_stands_in_for_redis_and_ends_when_it_is_back(
    nodes: tuple[Node, Node], redis: RedisServer, way: str
) -> None:
    one, two = nodes
    opened = one.stream.opened, two.stream.opened
    await edits_cross(one, two, "a")
    assert (one.stream.opened, two.stream.opened) == opened, "a healthy Redis costs no stream"
    redis.kill() if way == "killed" else redis.signal(signal.SIGSTOP)
    for node in nodes:
        await node.streams()
    await edits_cross(one, two, "b")
    redis.start() if way == "killed" else redis.signal(signal.SIGCONT)
    for node in nodes:
        await node.on_redis()
    await edits_cross(one, two, "c")
    assert (one.stream.opened, two.stream.opened) == (opened[0] + 1, opened[1] + 1)


async def test_a_redis_that_flaps_does_not_end_the_stream(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    one, two = nodes
    assert one.either is not None
    redis.kill()
    for node in nodes:
        await node.streams()
    opened = one.stream.opened, two.stream.opened
    for _ in range(3):
        redis.start()
        await one.either.redis.until(healthy=True)
        redis.kill()
        await one.either.redis.until(healthy=False)
        assert one.stream.open
    await edits_cross(one, two, "a")
    assert (one.stream.opened, two.stream.opened) == opened


async def test_what_a_stream_repeats_is_applied_once(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    """While both bring news, and while the stream brings what the author itself is still waiting for."""
    one, two = nodes
    for node in nodes:
        node.stream.start()
        await node.streams()
    for number in range(100):
        await one.writes(f"{number},")
    await two.person.holds("".join(f"{number}," for number in range(100)))
    assert await two.store.heads(["d"]) == {"d": 100}
