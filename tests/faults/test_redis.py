"""Redis is killed, stopped, emptied, full or never there: people wait for nothing, and nodes converge through the store."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from redis import Redis

from tests.e2e.kit import PATIENCE, shared, token, two_nodes
from tests.e2e.revoking import close_code, opened, push, revoke
from tests.faults.cluster import Cluster
from tests.faults.people import People, judge
from tests.harness.partition import DividedSet
from tests.harness.redis_server import RedisServer

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
async def test_redis_goes_and_comes_back(cluster: Cluster, fault: str) -> None:
    begin, end = FAULTS[fault]
    async with People(cluster.urls) as people:
        await people.progress()
        await asyncio.to_thread(begin, cluster.redis)
        await people.progress()
        await people.exchange()
        await asyncio.to_thread(end, cluster.redis)
        await people.progress()
        await people.exchange()
        await judge(people, cluster.urls, cluster.store, f"Redis is {fault}")
        assert not people.errors(), "somebody noticed it"
    cluster.check_nodes()


async def test_redis_refuses_connections_from_the_start(cluster: Cluster) -> None:
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
        await judge(people, cluster.urls, cluster.store, "Redis refuses connections from the start")
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
