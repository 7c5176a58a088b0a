"""News between nodes over Redis, which may be away at any time: see docs/design/redis-bus.md."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from server.addresses import without_secrets
from server.bus.errors import BusUnusable
from server.bus.listeners import Listeners
from server.bus.news import MalformedNews, decode, encode
from server.bus.ports import DROPPED
from server.bus.redis_address import ANSWER_SECONDS, CONNECT_SECONDS, client_at
from server.bus.seal import TAG_BYTES, NotOurs, Seal
from server.connected import Came, Connection, answered
from server.figures import Figure
from sync.rooms.ports import Listener, News, PresenceWanted

log = logging.getLogger(__name__)

UNSENT_BYTES = 8 << 20
"""What waits for a slow Redis at most; news beyond it is dropped, and found in the store."""

FLUSH_SECONDS = 0.5
"""How long `close` waits for the last news to go out."""

NODE_BYTES = 8
"""Of the name of the end that sends, before its news."""

SHARDED_SINCE = 7
"""The first version with sharded publish and subscribe."""

_STRANGER = AuthenticationError | AuthenticationWrongNumberOfArgsError | AuthorizationError | NoPermissionError
_AWAY = (RedisError, OSError, TimeoutError)


async def open_redis(url: str, *, key: str, prefix: str = "ebbtide") -> RedisBus:
    """An end of the bus at `url`. `prefix` begins the names of its channels, so that deployments may share a Redis.

    `key` is a secret of the store: news is believed when a node that knows it has sent it.

    A Redis that is away is waited for in the background. Raises `BusUnusable` for an address or a password that is wrong,
    and for whatever else Redis answers that it does not do.
    """
    bus = RedisBus(client_at(url), prefix, Seal(key))
    place = without_secrets(url)
    try:
        error = await bus.tried
    except BaseException:
        await bus.close()
        raise
    if isinstance(error, _STRANGER | ResponseError):
        await bus.close()
        if isinstance(error, _STRANGER):
            raise BusUnusable(place, f"refuses the user or the password ({error}); correct --bus")
        raise BusUnusable(place, f"refuses what --bus asks for ({error}); correct it")
    if error is not None:
        log.warning("redis away, nodes converge through the store", extra={"reason": str(error) or "no answer"})
    return bus


async def _is_sharded(client: Redis) -> bool:
    """Whether channels are sharded: not in a cluster, where a shard's are to be had from that shard alone."""
    info = await answered(client.info("server"))
    return int(str(info["redis_version"]).partition(".")[0]) >= SHARDED_SINCE and info.get("redis_mode") != "cluster"


def _publish(sharded: bool) -> str:
    return "SPUBLISH" if sharded else "PUBLISH"


class RedisBus:
    """A node's end of the bus; see `server.bus.ports.NodeBus`. Made by `open_redis`.

    One task listens and one sends, each starting over when Redis went. What is published meanwhile is dropped.
    """

    def __init__(self, client: Redis, prefix: str, seal: Seal) -> None:
        self._client = client
        self._prefix = f"{prefix}:".encode()
        self._seal = seal
        self._node = secrets.token_bytes(NODE_BYTES)
        self._listeners = Listeners()
        self._unsent: deque[tuple[bytes, bytes]] = deque()
        self._unsent_bytes = 0
        self._work = asyncio.Event()
        # The channels that Redis was asked for and has confirmed, and whether they are what is wanted.
        self._asked: set[bytes] = set()
        self._confirmed: set[bytes] = set()
        self._settled = asyncio.Event()
        # Whether Redis lets us listen at all.
        self._admitted = asyncio.Event()
        self._wanted = asyncio.Event()
        # How many messages have come, answers among them.
        self._heard = 0
        self._sharded = False
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._down.set()
        self.dropped = 0
        """News that could not be sent."""
        self.refused = 0
        """News that came from nobody on this store, or were none."""
        self.tried: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        """What the first attempt to connect ended with: None when it did not fail."""
        self._connection = Connection(self._connected, self._went, _AWAY)

    @property
    def healthy(self) -> bool:
        """Whether Redis takes and gives news just now."""
        return self._up.is_set()

    async def until(self, *, healthy: bool) -> None:
        """Return when it is healthy, or when it is not."""
        await (self._up if healthy else self._down).wait()

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        if not self.healthy:
            self.dropped += 1
            return
        channel = self._channel(document)
        data = self._seal.put_on(channel, self._node + encode(news))
        if self._unsent_bytes + len(data) > UNSENT_BYTES:
            self.dropped += 1
            return
        self._unsent.append((channel, data))
        self._unsent_bytes += len(data)
        self._work.set()

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self._listeners.subscribe(document, listener)
        self._want()

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self._listeners.unsubscribe(document, listener)
        if document not in self._listeners:
            self._want()

    async def settled(self) -> None:
        """Return when Redis has confirmed every subscription."""
        await self._settled.wait()

    def figures(self) -> Sequence[Figure]:
        """See `NodeBus.figures`."""
        return [
            Figure("bus_healthy", "Whether Redis takes and gives news (1) or not (0).", lambda: self.healthy),
            Figure("bus_dropped", DROPPED, lambda: self.dropped, total=True),
            Figure("bus_refused", "News that came from nobody on this store.", lambda: self.refused, total=True),
        ]

    async def close(self) -> None:
        """See `Bus.close`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                while self._unsent and self.healthy:
                    await asyncio.sleep(0.005)
        self._listeners.clear()
        # What lost its cancellation looks whether it is to end.
        self._wanted.set()
        self._work.set()
        await self._connection.close()
        with suppress(*_AWAY):
            await self._client.aclose()

    def _channel(self, document: str) -> bytes:
        return self._prefix + document.encode()

    def _want(self) -> None:
        self._settled.clear()
        self._wanted.set()

    async def _connected(self, came: Came) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            self._sharded = await _is_sharded(self._client)
            # One that lets us in need not take news, or give any: it is available when it did both.
            trial = self._client.execute_command(_publish(self._sharded), self._prefix, b"")  # type: ignore[no-untyped-call]
            await answered(trial)
        async with self._client.pubsub() as channels, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._subscribe(channels))
            tasks.create_task(self._listen(channels))
            tasks.create_task(self._watch(channels))
            tasks.create_task(self._send())
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._admitted.wait()
            came()
            self._came()

    def _came(self) -> None:
        log.info("redis available", extra={"sharded": self._sharded})
        if not self.tried.done():
            self.tried.set_result(None)
        self._down.clear()
        self._up.set()
        # Who is where may have changed meanwhile.
        for document in list(self._listeners):
            self._listeners.tell(document, PresenceWanted())
            self.publish(document, PresenceWanted())

    def _went(self, error: BaseException) -> None:
        if self.healthy:
            log.warning("redis away, nodes converge through the store", extra={"reason": str(error) or "no answer"})
        if not self.tried.done():
            self.tried.set_result(error)
        self._up.clear()
        self._down.set()
        self.dropped += len(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        self._asked, self._confirmed = set(), set()
        self._admitted.clear()
        self._want()

    async def _subscribe(self, channels: PubSub) -> None:
        """Ask for the channels of the documents that are listened for, whenever they have changed."""
        subscribe = channels.ssubscribe if self._sharded else channels.subscribe
        unsubscribe = channels.sunsubscribe if self._sharded else channels.unsubscribe
        while not self._connection.closing:
            self._wanted.clear()
            # The prefix alone too: the connection is to be listened on also without documents.
            wanted = {self._prefix, *[self._channel(document) for document in self._listeners]}
            more, less = wanted - self._asked, self._asked - wanted
            self._asked = wanted
            async with asyncio.timeout(ANSWER_SECONDS):
                if more:
                    await answered(subscribe(*more))
                if less:
                    await answered(unsubscribe(*less))
            self._confirm()
            await self._wanted.wait()

    async def _listen(self, channels: PubSub) -> None:
        while not channels.subscribed:
            await asyncio.sleep(0.01)
        while not self._connection.closing:
            message: dict[str, Any] = await channels.get_message(timeout=None)
            self._heard += 1
            kind, channel = message["type"], message["channel"]
            if kind in ("message", "smessage"):
                self._hear(channel, message["data"])
            elif kind in ("subscribe", "ssubscribe"):
                self._confirmed.add(channel)
                self._confirm()
                if channel == self._prefix:
                    self._admitted.set()
            elif kind in ("unsubscribe", "sunsubscribe"):
                self._confirmed.discard(channel)

    async def _watch(self, channels: PubSub) -> None:
        """Ask a Redis that says nothing. Raises `TimeoutError` when it still says nothing."""
        while not self._connection.closing:
            heard = self._heard
            await asyncio.sleep(ANSWER_SECONDS)
            if self._heard == heard and channels.subscribed:
                await answered(channels.ping())
                await asyncio.sleep(ANSWER_SECONDS)
                if self._heard == heard:
                    raise TimeoutError("redis does not answer")

    async def _send(self) -> None:
        command = _publish(self._sharded)
        while not self._connection.closing:
            await self._work.wait()
            self._work.clear()
            while self._unsent:
                batch = list(self._unsent)
                async with self._client.pipeline(transaction=False) as pipeline:
                    for channel, data in batch:
                        pipeline.execute_command(command, channel, data)
                    async with asyncio.timeout(ANSWER_SECONDS):
                        # Raised by the pipeline, what Redis refused would be quoted: it is people's words.
                        answers = await answered(pipeline.execute(raise_on_error=False))
                for refusal in answers:
                    if isinstance(refusal, RedisError):
                        raise refusal
                for _ in batch:
                    self._unsent_bytes -= len(self._unsent.popleft()[1])

    def _confirm(self) -> None:
        if not self._wanted.is_set() and self._asked <= self._confirmed:
            self._settled.set()

    def _hear(self, channel: bytes, data: bytes) -> None:
        if channel == self._prefix:
            # Somebody tried whether this can be heard.
            return
        try:
            if data.startswith(self._node, TAG_BYTES):
                # Our own, which Redis tells us too.
                return
            news = decode(self._seal.take_off(channel, data)[NODE_BYTES:])
        except (NotOurs, MalformedNews) as error:
            self.refused += 1
            # Another deployment's news may be many: each time that they have doubled is enough.
            if self.refused & (self.refused - 1) == 0:
                log.warning("news not believed", extra={"reason": str(error), "refused": self.refused})
            return
        self._listeners.tell(channel.removeprefix(self._prefix).decode(errors="replace"), news)
