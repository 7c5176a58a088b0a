"""Revocations and counts of several nodes in a real Redis that comes and goes."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from server.access import redis_lists as module
from server.access.errors import RateLimited, RevocationNotSpread
from server.access.rates import Rate, Rates
from server.access.redis_lists import RedisLists, open_lists
from server.access.revocations import Revocation, Revocations
from tests.harness.redis_server import RedisServer
from tests.harness.stubborn import Stubborn, lose_the_cancellation
from tests.server.access.kit import HOURS, PATIENCE, Node, check_a_mistake_of_ours, subject

LIMIT = 10
REFUSES = "redis refuses to write, revocations are not kept there and rates not shared"
WRITES_AGAIN = "redis writes again, revocations and rates are shared"


class OnRedis(Node):
    def __init__(self, lists: RedisLists, revocations: Revocations, rates: Rates) -> None:
        super().__init__(lists, revocations)
        self.rates = rates


Join = Callable[..., Awaitable[OnRedis]]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def client(redis: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis.url)
    yield client
    await client.aclose()


@pytest.fixture
async def join(redis: RedisServer) -> AsyncIterator[Join]:
    nodes: list[OnRedis] = []

    async def join(prefix: str = "ebbtide", clock: Callable[[], float] = time.time) -> OnRedis:
        revocations = Revocations(HOURS, clock, lambda call: None)
        rates = Rates(dict.fromkeys(Rate, LIMIT), clock)
        nodes.append(OnRedis(await open_lists(redis.url, prefix, revocations, rates, clock), revocations, rates))
        return nodes[-1]

    yield join
    for node in nodes:
        await node.close()


def revoked(node: Node, revocation: Revocation) -> Revocation:
    return node.revocations.add(revocation)


async def test_a_revocation_reaches_those_who_are_there_and_those_who_come(join: Join) -> None:
    one, two = await join(), await join()
    entry = revoked(one, subject())
    await one.carrier.spread(entry)
    await two.learns(entry)
    three = await join()
    assert set(three.revocations) == {entry}, "it knows before it takes a connection"
    other = await join("ebbtide2")
    assert set(other.revocations) == set()


async def test_the_later_time_stands_whoever_writes_last(join: Join, client: Redis) -> None:
    one, two = await join(), await join()
    now = float(int(time.time()))
    await one.carrier.spread(subject(at=now))
    await two.carrier.spread(subject(at=now - 100))
    assert await client.zscore("ebbtide:revocations", "sada") == now
    assert set((await join()).revocations) == {subject(at=now)}


async def test_a_redis_that_was_restarted_empty_gets_it_all_back(
    join: Join, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 4)
    one, two = await join(), await join()
    both = [subject(f"{number}") for number in range(10)]
    for entry in both:
        await one.carrier.spread(revoked(one, entry))
    await two.learns(*both)
    redis.kill()
    for node in (one, two):
        await node.is_healthy(False)
    alone = revoked(one, subject("while it was away"))
    with pytest.raises(RevocationNotSpread):
        await one.carrier.spread(alone)
    redis.start()
    await two.learns(alone)
    for node in (one, two):
        await node.is_healthy()
    three = await join()
    assert set(three.revocations) == {*both, alone}


async def test_what_redis_lost_without_a_word_is_written_again(
    join: Join, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.1)
    one = await join()
    entry = revoked(one, subject())
    await one.carrier.spread(entry)
    await client.flushall()
    async with asyncio.timeout(PATIENCE):
        while await client.zscore("ebbtide:revocations", "sada") != entry.at:
            await asyncio.sleep(0.02)


async def test_what_has_expired_is_neither_kept_nor_learnt(join: Join, client: Redis) -> None:
    old = time.time() - HOURS * 3600 - 10
    await client.zadd("ebbtide:revocations", {"sold": old, "snew": old + 100})
    node = await join()
    assert {each.name for each in node.revocations} == {"new"}
    assert await client.zrange("ebbtide:revocations", 0, -1) == [b"snew"]
    await node.carrier.spread(revoked(node, subject()))
    assert HOURS * 3600 <= await client.ttl("ebbtide:revocations") <= HOURS * 3600 + 60


async def test_a_redis_that_hangs_holds_up_nobody_for_long(join: Join, redis: RedisServer) -> None:
    one, two = await join(), await join()
    redis.signal(signal.SIGSTOP)
    entry = revoked(one, subject())
    with pytest.raises(RevocationNotSpread):
        await one.carrier.spread(entry)
    await two.is_healthy(False)
    late = await join()
    assert not late.carrier.healthy
    redis.signal(signal.SIGCONT)
    for node in (two, late):
        await node.learns(entry)


async def test_a_full_redis_is_said_once_and_the_others_hear_all_the_same(
    join: Join, client: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARE_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    one, two = await join(), await join()
    await client.config_set("maxmemory", 1)
    for number in range(3):
        one.rates.take(Rate.HANDSHAKES, "ada")
        async with asyncio.timeout(PATIENCE):
            while one.rates._untold:
                await asyncio.sleep(0.02)
        await one.is_healthy(False)
        entry = revoked(one, subject(f"somebody {number}"))
        with pytest.raises(RevocationNotSpread, match="Redis refuses to write"):
            await one.carrier.spread(entry)
        await two.learns(entry)
    said = [record.__dict__["reason"] for record in caplog.records if record.message == REFUSES]
    assert said == ["command not allowed when used memory > 'maxmemory'."]
    assert "somebody" not in "".join(str(vars(record)) for record in caplog.records)
    assert "redis away" not in caplog.text, "it heard all the while"
    await client.config_set("maxmemory", 0)
    one.rates.take(Rate.HANDSHAKES, "ada")
    await one.is_healthy()
    await one.carrier.spread(entry)
    assert caplog.text.count(WRITES_AGAIN) == 1


async def test_a_redis_that_is_full_from_the_start_is_found_out_and_written_to_later(
    join: Join, client: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    await client.config_set("maxmemory", 1)
    node = await join()
    assert not node.carrier.healthy
    assert REFUSES in caplog.text
    assert "revocations are shared" not in caplog.text
    entry = revoked(node, subject())
    await client.config_set("maxmemory", 0)
    await node.is_healthy()
    async with asyncio.timeout(PATIENCE):
        while await client.zscore("ebbtide:revocations", entry.key) != entry.at:
            await asyncio.sleep(0.02)


async def test_nodes_count_together(join: Join, client: Redis) -> None:
    moment = 1_800_000_000.0

    def clock() -> float:
        return moment

    one, two = await join(clock=clock), await join(clock=clock)
    for _ in range(7):
        one.rates.take(Rate.PUSHES, "ada")
    two.rates.take(Rate.PUSHES, "ada")
    name = f"ebbtide:rates:{int(moment // 60)}:pushes"

    async def total() -> int:
        return sum(int(each) for each in await client.hvals(name))

    async with asyncio.timeout(PATIENCE):
        while await total() < 8:
            await asyncio.sleep(0.02)
    assert 0 < await client.ttl(name) <= 120
    assert all(b"ada" not in each for each in await client.hkeys(name))
    # Whoever tells something is told the sum. Ten are two more, or three when the first was told too early.
    taken = 0
    while takes(two):
        taken += 1
        async with asyncio.timeout(PATIENCE):
            while await total() < 8 + taken:
                await asyncio.sleep(0.02)
    assert 2 <= taken <= 3


def takes(node: OnRedis) -> bool:
    try:
        node.rates.take(Rate.PUSHES, "ada")
    except RateLimited:
        return False
    return True


async def test_what_fails_while_it_is_closed_does_not_begin_again(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: RedisLists, channel: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionError("on the way out")

    monkeypatch.setattr(RedisLists, "_listen", fails)
    node = await join()
    await node.is_healthy()
    async with asyncio.timeout(PATIENCE):
        await node.carrier.close()


@pytest.mark.parametrize("loop", ["SHARE_SECONDS", "COMPARE_SECONDS"])
async def test_closing_ends_although_the_driver_loses_cancellations(
    join: Join, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    stubborn = Stubborn()
    monkeypatch.setattr(module, "answered", stubborn.answered)
    monkeypatch.setattr(module, loop, 0.05)
    node = await join()
    await node.is_healthy()
    stubborn.gate.clear()
    node.rates.take(Rate.HANDSHAKES, "ada")
    await lose_the_cancellation(stubborn, node.carrier.close(), PATIENCE)


async def test_a_mistake_of_ours_is_said_and_does_not_end_sharing(
    join: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await join(), await join()
    await check_a_mistake_of_ours(one, two, monkeypatch, caplog)
