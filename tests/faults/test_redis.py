"""Redis is killed, stopped, emptied, full or never there: people wait for nothing, and nodes converge through the store."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest
from redis import Redis

from tests.faults.cluster import Cluster
from tests.faults.people import People, judge
from tests.harness.observed import Observe
from tests.harness.redis_server import RedisServer


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
