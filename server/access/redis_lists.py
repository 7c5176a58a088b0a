"""Revocations and rates of all nodes, in a Redis that may be away at any time: see docs/design/revocation-and-rates.md."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from server.access.codec import MalformedRevocation, decode, decode_message, encode_message
from server.access.errors import RevocationNotSpread, RevocationsFull
from server.access.rates import MAX_COUNTED, WINDOW_SECONDS, Rate, Rates, Share
from server.access.revocations import MAX_LEARNT, Revocation, Revocations
from server.bus.redis_address import ANSWER_SECONDS, client_at
from server.connected import Came, Connection, answered

log = logging.getLogger(__name__)

COMPARE_SECONDS = 30.0
"""Between two comparisons of this node's list with that of Redis. Each new entry is announced at once besides."""

START_SECONDS = 10.0
"""How long a start waits for the revocations in Redis, page by page. One that does not answer is given up much sooner."""

SHARE_SECONDS = 1.0
"""Between two exchanges of counts."""

PAGE = 1_000
"""Entries, or counts, in one exchange."""

_AWAY = (RedisError, OSError, TimeoutError)


async def open_lists(
    url: str, prefix: str, revocations: Revocations, rates: Rates, now: Callable[[], float] = time.time
) -> RedisLists:
    """The lists at `url`, with the revocations that Redis knows, unless it is away.

    `prefix` begins the names of its keys and of its channel. Raises `BusUnusable` for an address that cannot be used.
    """
    client = client_at(url)
    lists = RedisLists(client, prefix, revocations, rates, now)
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            await lists.tried.wait()
    return lists


class RedisLists:
    """This node's end of the lists: a `Carrier`, and the counters of all nodes. Made by `open_lists`.

    One task stays connected and begins anew when Redis went. Nothing that a client waits for waits for it, except
    `spread`.
    """

    def __init__(self, client: Redis, prefix: str, revocations: Revocations, rates: Rates, now: Callable[[], float]) -> None:
        self._client = client
        self._key = f"{prefix}:revocations"
        self._counters = f"{prefix}:rates"
        # No document's name has a control character, so this is the channel of none.
        self._channel = f"{prefix}\0revocations"
        self._revocations = revocations
        self._rates = rates
        self._now = now
        self._listening = False
        self._told_away = False
        self.tried = asyncio.Event()
        """Set once this node has seen all that Redis knew, or found that it cannot."""
        self._connection = Connection(self._connected, self._went, _AWAY)

    @property
    def healthy(self) -> bool:
        """See `Carrier.healthy`."""
        return self._listening and self._connection.kept

    async def spread(self, revocation: Revocation) -> None:
        """See `Carrier.spread`: Redis has the entry and has announced it to every node that listens.

        Where that fails, this node writes the entry when Redis is back.
        """
        try:
            await self._answer(self._write([revocation]))
        except _AWAY as error:
            log.warning("revocation not spread", extra={"reason": str(error) or "no answer"})
            raise RevocationNotSpread("Redis is away") from None

    async def close(self) -> None:
        """See `Carrier.close`."""
        await self._connection.close()
        with suppress(*_AWAY):
            await self._client.aclose()

    async def _connected(self, came: Came) -> None:
        async with self._client.pubsub() as channel, asyncio.TaskGroup() as tasks:
            # Listening comes before comparing, so that nothing falls between the two.
            await self._answer(self._subscribe(channel))
            await self._compare()
            came()
            self._came()
            tasks.create_task(self._listen(channel))
            tasks.create_task(self._compare_again())
            tasks.create_task(self._share())

    def _came(self) -> None:
        log.info("revocations are shared", extra={"entries": len(self._revocations)})
        self._listening = True
        self._told_away = False
        self.tried.set()

    def _went(self, error: BaseException) -> None:
        self._listening = False
        self.tried.set()
        if not self._told_away:
            reason = str(error) or "no answer"
            log.warning("redis away, revocations and rates are this node's alone", extra={"reason": reason})
        self._told_away = True

    async def _answer(self, answer: Awaitable[Any]) -> Any:
        """What Redis answers in time. Raises `TimeoutError`, and what redis-py raises."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answered(answer)

    # Revocations

    async def _subscribe(self, channel: PubSub) -> None:
        await channel.subscribe(self._channel)
        while (message := await channel.get_message(timeout=ANSWER_SECONDS)) is None or message["type"] != "subscribe":
            pass

    async def _listen(self, channel: PubSub) -> None:
        asked = False
        while True:
            message = await channel.get_message(timeout=ANSWER_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError("redis does not answer")
                await answered(channel.ping())
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        try:
            self._revocations.learn(decode_message(data, self._now()))
        except MalformedRevocation as error:
            log.warning("revocation not understood", extra={"reason": str(error)})
        except RevocationsFull as error:
            log.error("revocation of another node not taken in", extra={"limit": error.limit})

    async def _compare_again(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            await self._compare()

    async def _compare(self) -> None:
        """Learn what Redis knows, and write what it lacks: it may have been restarted empty."""
        oldest = self._revocations.oldest()
        known: dict[str, float] = {}
        await self._answer(self._client.zremrangebyscore(self._key, "-inf", oldest))
        for start in range(0, MAX_LEARNT, PAGE):
            page = await self._answer(self._client.zrange(self._key, start, start + PAGE - 1, withscores=True))
            known.update(self._learn(page))
            if len(page) < PAGE:
                break
        lacking = iter(self._revocations.beyond(known))
        while batch := list(islice(lacking, PAGE)):
            await self._answer(self._write(batch))

    def _learn(self, page: Iterable[tuple[bytes, float]]) -> Iterator[tuple[str, float]]:
        now = self._now()
        for member, score in page:
            try:
                revocation = decode(member, score, now)
                self._revocations.learn(revocation)
            except MalformedRevocation as error:
                log.warning("revocation not understood", extra={"reason": str(error)})
            except RevocationsFull as error:
                log.error("revocation of another node not taken in", extra={"limit": error.limit})
                return
            else:
                yield revocation.key, score

    async def _write(self, revocations: list[Revocation]) -> None:
        kept = int(self._revocations.seconds) + WINDOW_SECONDS
        async with self._client.pipeline(transaction=False) as pipeline:
            # Of two nodes that write one entry, the later time stands, whoever comes last.
            pipeline.zadd(self._key, {each.key: each.at for each in revocations}, gt=True)
            pipeline.expire(self._key, kept)
            for each in revocations:
                pipeline.publish(self._channel, encode_message(each))
            await pipeline.execute()

    # Rates

    async def _share(self) -> None:
        while True:
            await asyncio.sleep(SHARE_SECONDS)
            for _ in range(0, len(Rate) * MAX_COUNTED, PAGE):
                shares = self._rates.untold(PAGE)
                if shares:
                    totals = await self._answer(self._count(shares))
                    for share, total in zip(shares, totals, strict=True):
                        self._rates.learn(share, total)
                if len(shares) < PAGE:
                    break

    async def _count(self, shares: list[Share]) -> list[int]:
        """Add to the counters of all nodes; the totals, in the order of `shares`."""
        names = [f"{self._counters}:{share.window}:{share.rate.value}" for share in shares]
        async with self._client.pipeline(transaction=False) as pipeline:
            for name, share in zip(names, shares, strict=True):
                pipeline.hincrby(name, share.key, share.more)
            for name in set(names):
                pipeline.expire(name, 2 * WINDOW_SECONDS)
            totals: list[int] = await pipeline.execute()
        return totals[: len(shares)]
