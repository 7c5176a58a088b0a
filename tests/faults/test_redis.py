"""Redis is killed, stopped, emptied, full, slow or never there: people wait for nothing; nodes converge through the store."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest
from redis import Redis

from server.bus.redis_address import ANSWER_SECONDS
from tests.e2e.kit import PATIENCE, shared, token, two_nodes
from tests.e2e.revoking import close_code, opened, push, revoke
from tests.faults.cluster import Cluster
from tests.faults.people import People, judge
from tests.harness.observed import Observe
from tests.harness.partition import DividedSet
from tests.harness.proxy import Mode, Proxy
from tests.harness.redis_server import RedisServer

SLOW_SECONDS = 0.3
"""Each way: there and back is less than nodes wait for an answer."""

TOO_SLOW_SECONDS = 1.5 * ANSWER_SECONDS
"""More than that, so that Redis counts as away although it answers."""

REFUSES = "redis refuses to write"


def fill(redis: RedisServer) -> None:
    """Whatever needs memory is refused from now on."""
    with Redis(port=redis.port) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)


def restart(redis: RedisServer) -> None:
    redis.kill()
    redis.start()


FAULTS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "killed": (RedisServer.kill, RedisServer.start),
    "stopped": (lambda redis: redis.signal(signal.SIGSTOP), lambda redis: redis.signal(signal.SIGCONT)),
    "restarted empty": (restart, lambda redis: None),
    "full": (fill, restart),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_redis_goes_and_comes_back(cluster: Cluster, fault: str, observe: Observe) -> None:
    begin, end = FAULTS[fault]
    async with People(cluster.urls) as people:
        await people.progress()
        await asyncio.to_thread(begin, cluster.redis)
        await people.progress()
        await people.exchange()
        await asyncio.to_thread(end, cluster.redis)
        await people.progress()
        await people.exchange()
        observe(f"Redis is {fault}: {await judge(people, cluster.urls, cluster.store)}")
        assert not people.errors(), "somebody noticed it"
    cluster.check_nodes()


async def test_redis_refuses_connections_from_the_start(cluster: Cluster, observe: Observe) -> None:
    cluster.redis.kill()
    for node in cluster.nodes:
        node.kill()
        await asyncio.to_thread(node.start)
    async with People(cluster.urls) as people:
        await people.progress()
        await people.exchange()
        await asyncio.to_thread(cluster.redis.start)
        await people.progress()
        await people.exchange()
        observe(f"Redis refuses connections from the start: {await judge(people, cluster.urls, cluster.store)}")
        assert not people.errors(), "somebody noticed it"
    cluster.check_nodes()


@pytest.mark.parametrize("seconds", [SLOW_SECONDS, TOO_SLOW_SECONDS])
async def test_redis_is_slow(cluster: Cluster, seconds: float, observe: Observe) -> None:
    with ExitStack() as running:
        proxy = running.enter_context(Proxy(cluster.redis.port, slow_seconds=seconds))
        for node in cluster.nodes:
            node.kill()
        cluster.nodes = [cluster.node(name, bus=f"redis://127.0.0.1:{proxy.port}") for name in ("far-a", "far-b")]
        for node in cluster.nodes:
            running.enter_context(node)
        async with People(cluster.urls) as people:
            await people.progress()
            proxy.set(Mode.SLOW)
            await people.progress(30)
            await people.exchange()
            if seconds == TOO_SLOW_SECONDS:
                away = "redis away, nodes converge through the store"
                await people.until(lambda: all(away in node.errors for node in cluster.nodes), "word of it in the logs")
            await people.progress()
            proxy.set(Mode.PASS)
            await people.progress()
            await people.exchange()
            observe(f"Redis is slow ({seconds:g} s each way): {await judge(people, cluster.urls, cluster.store)}")
            assert not people.errors(), "somebody noticed it"
        cluster.check_nodes()


async def test_a_full_redis_and_people_with_tokens(tmp_path: Path, members: DividedSet) -> None:
    database = ("--store", members.url("faults_full"))
    with RedisServer(tmp_path / "redis") as redis, two_nodes(tmp_path, redis, *database) as nodes:
        fill(redis)
        async with aiohttp.ClientSession() as http:
            for node in nodes:
                assert await push(http, node, token("ann")) == (200, "")
                async with asyncio.timeout(PATIENCE):
                    while REFUSES not in node.errors:
                        await asyncio.sleep(0.05)
            for name in ("ada", "bob", "eve"):
                bearer = token(name)
                there = await opened(http, nodes[1], bearer)
                assert await push(http, nodes[0], bearer) == (200, "")
                # MongoDB has it, and is enough.
                assert (await revoke(http, nodes[0], {"subject": name}))[0] == 200
                assert await close_code(there) == 4401
                for node in nodes:
                    assert await push(http, node, bearer) == (401, "token-revoked")
                    await shared(http, node, 1)
        for node in nodes:
            assert node.errors.count(REFUSES) == 1
            assert "redis away" not in node.errors
            assert "HINCRBY" not in node.errors
            assert "Traceback" not in node.errors
