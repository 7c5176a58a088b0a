"""A node is killed, stopped, or cut off from the database and Redis: its people wait or move, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.faults.cluster import Cluster
from tests.faults.people import People, audit, judge
from tests.harness.observed import Observe
from tests.harness.proxy import Mode, Proxy

STOPPED_SECONDS = 5.0


async def test_a_node_is_killed_and_started_again(cluster: Cluster, observe: Observe) -> None:
    async with People(cluster.urls) as people:
        await people.progress()
        cluster.nodes[0].kill()
        await audit(people, cluster.store)
        await people.progress()
        await people.exchange()
        await asyncio.to_thread(cluster.nodes[0].start)
        await people.progress()
        observe(f"A node is killed: {await judge(people, cluster.urls, cluster.store)}")
        told = {error for error in people.errors() if error.startswith(("HTTP", "close 4", "rejected", "denied"))}
        assert not told, "somebody was told more than that the connection is gone"
    cluster.check_nodes()


async def test_a_node_is_stopped_and_goes_on(cluster: Cluster, observe: Observe) -> None:
    async with People(cluster.urls) as people:
        await people.progress()
        cluster.nodes[0].signal(signal.SIGSTOP)
        await asyncio.sleep(STOPPED_SECONDS)
        cluster.nodes[0].signal(signal.SIGCONT)
        await people.progress()
        await people.exchange()
        observe(f"A node is stopped: {await judge(people, cluster.urls, cluster.store)}")
        assert not people.errors(), "somebody noticed more than a pause"
    cluster.check_nodes()


@pytest.mark.parametrize("mode", [Mode.STALL, Mode.RESET])
async def test_a_node_is_cut_off_from_database_and_redis(cluster: Cluster, mode: Mode, observe: Observe) -> None:
    with Proxy(cluster.redis.port) as to_redis:
        cut, other = cluster.nodes = [cluster.node("cut", bus=f"redis://127.0.0.1:{to_redis.port}"), cluster.nodes[1]]
        cluster.members.know(cut)
        with cut:
            async with People(cluster.urls) as people:
                await people.progress()
                cluster.members.treat(cut, mode)
                to_redis.set(mode)
                elsewhere = [editor for editor in people.editors if editor.url == other.url]
                await people.progress(among=elsewhere)
                await asyncio.sleep(STOPPED_SECONDS)
                cluster.members.treat(cut, Mode.PASS)
                to_redis.set(Mode.PASS)
                await people.progress()
                await people.exchange()
                observe(f"A node is cut off ({mode.name.lower()}): {await judge(people, cluster.urls, cluster.store)}")
                told = set(people.errors()) - {"HTTP 503 store-unavailable"}
                assert not told, "somebody noticed more than a pause, and pushers that they are to come back"
            cluster.check_nodes()
