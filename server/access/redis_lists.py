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
from redis.asyncio.client import Pipeline, PubSub
from redis.exceptions import RedisError, ResponseError

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

    One task stays connected and begins anew when Redis went. What Redis refuses to write, since it is full for example, is
    left at that, and tried with each exchange. Nothing that a client waits for waits for it, except `spread`.
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
        self._refused = False
        self.tried = asyncio.Event()
        """Set once this node has seen all that Redis knew, or found that it cannot."""
        self._connection = Connection(self._connected, self._went, _AWAY)

    @property
    def healthy(self) -> bool:
        """See `Carrier.healthy`. Where Redis refuses to write, what it was told is not kept for those who come."""
        return self._listening and not self._refused and self._connection.kept

    async def spread(self, revocation: Revocation) -> None:
        """See `Carrier.spread`: Redis has the entry and has announced it to every node that listens.

        Where that fails, this node writes the entry when Redis is back.
        """
        try:
            kept = await self._answer(self._write([revocation]))
        except _AWAY as error:
            log.warning("revocation not spread", extra={"reason": str(error) or "no answer"})
            raise RevocationNotSpread("Redis is away") from None
        if kept is None:
            raise RevocationNotSpread("Redis refuses to write")

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
        if not self._refused:
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

    async def _written(self, pipeline: Pipeline) -> list[Any] | None:
        """What Redis answers to a pipeline, or None where it refuses one of its commands. Raises what redis-py raises."""
        # Redis' own words: what redis-py raises by itself repeats the command, with names in it.
        answers = await pipeline.execute(raise_on_error=False)
        refusal = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
        if refusal is not None and not self._refused:
            reason = str(refusal)
            log.warning("redis refuses to write, revocations are not kept there and rates not shared", extra={"reason": reason})
        elif refusal is None and self._refused:
            log.info("redis writes again, revocations and rates are shared")
        self._refused = refusal is not None
        return None if self._refused else answers

    # Revocations

    async def _subscribe(self, channel: PubSub) -> None:
        await channel.subscribe(self._channel)
        while (message := await channel.get_message(timeout=ANSWER_SECONDS)) is None or message["type"] != "subscribe":
            pass

    async def _listen(self, channel: PubSub) -> None:
        asked = False
        while not self._connection.closing:
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
        while not self._connection.closing:
            await asyncio.sleep(COMPARE_SECONDS)
            await self._compare()

    async def _compare(self) -> None:
        """Learn what Redis knows, and write what it lacks: it may have been restarted empty."""
        known: dict[str, float] = {}
        await self._answer(self._clean())
        for start in range(0, MAX_LEARNT, PAGE):
            page = await self._answer(self._client.zrange(self._key, start, start + PAGE - 1, withscores=True))
            known.update(self._learn(page))
            if len(page) < PAGE:
                break
        lacking = iter(self._revocations.beyond(known))
        while batch := list(islice(lacking, PAGE)):
            if await self._answer(self._write(batch)) is None:
                break

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

    async def _clean(self) -> list[Any] | None:
        """Drop what has expired, and find out whether Redis writes what takes memory. None where it refuses to."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.zremrangebyscore(self._key, "-inf", self._revocations.oldest())
            pipeline.hincrby(f"{self._counters}:tried", "compared", 1)
            pipeline.expire(f"{self._counters}:tried", 2 * WINDOW_SECONDS)
            return await self._written(pipeline)

    async def _write(self, revocations: list[Revocation]) -> list[Any] | None:
        """Keep and announce these. None where Redis refuses to keep them; it may have announced them all the same."""
        kept = int(self._revocations.seconds) + WINDOW_SECONDS
        async with self._client.pipeline(transaction=False) as pipeline:
            # Of two nodes that write one entry, the later time stands, whoever comes last.
            pipeline.zadd(self._key, {each.key: each.at for each in revocations}, gt=True)
            pipeline.expire(self._key, kept)
            for each in revocations:
                pipeline.publish(self._channel, encode_message(each))
            return await self._written(pipeline)

    # Rates

    async def _share(self) -> None:
        while not self._connection.closing:
            await asyncio.sleep(SHARE_SECONDS)
            for _ in range(0, len(Rate) * MAX_COUNTED, PAGE):
                shares = self._rates.untold(PAGE)
                if shares:
                    await self._answer(self._count(shares))
                if len(shares) < PAGE:
                    break

    async def _count(self, shares: list[Share]) -> None:
        """Add to the counters of all nodes, and learn the totals, unless Redis refuses to count."""
        names = [f"{self._counters}:{share.window}:{share.rate.value}" for share in shares]
        async with self._client.pipeline(transaction=False) as pipeline:
            for name, share in zip(names, shares, strict=True):
                pipeline.hincrby(name, share.key, share.more)
            for name in set(names):
                pipeline.expire(name, 2 * WINDOW_SECONDS)
            totals = await self._written(pipeline)
        if totals is not None:
            for share, total in zip(shares, totals[: len(shares)], strict=True):
                self._rates.learn(share, total)
