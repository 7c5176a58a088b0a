"""The primary is killed, stopped or cut off while people write: they notice a pause in acknowledgements, nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import aiohttp
import pytest

from tests.e2e.kit import PATIENCE, metrics
from tests.faults.cluster import Cluster
from tests.faults.people import People, audit, judge
from tests.harness.mongod import Member
from tests.harness.observed import Observe
from tests.harness.partition import DividedSet

Fault = Callable[[DividedSet, Member], None]

FAULTS: dict[str, Fault] = {
    "killed": lambda members, primary: primary.kill(),
    "stopped": lambda members, primary: primary.signal(signal.SIGSTOP),
    "cut off": lambda members, primary: members.cut_off(primary),
    "cut off from the members": lambda members, primary: members.cut_off(primary, clients_too=False),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_primary_goes_and_comes_back(cluster: Cluster, fault: str, observe: Observe) -> None:
    members = cluster.members
    async with People(cluster.urls) as people:
        await people.progress()
        primary = members.primary()
        FAULTS[fault](members, primary)
        await audit(people, cluster.store)
        await people.progress()
        await asyncio.to_thread(members.recover)
        await people.progress()
        await people.exchange()
        observe(f"The primary is {fault}: {await judge(people, cluster.urls, cluster.store)}")
        assert not people.errors(), "somebody noticed more than a pause"
    cluster.check_nodes()


async def test_a_store_that_is_gone_while_nobody_writes_is_seen_to_be(cluster: Cluster) -> None:
    async def until_all_say(healthy: int) -> None:
        async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE):
            for node in cluster.nodes:
                while f"\nebbtide_store_healthy {healthy}.0\n" not in await metrics(http, node):
                    await asyncio.sleep(0.1)

    await until_all_say(1)
    for member in cluster.members.members:
        member.kill()
    await until_all_say(0)
    await asyncio.to_thread(cluster.members.recover)
    await until_all_say(1)
    for node in cluster.nodes:
        said = [line for line in node.errors.splitlines() if "store not polled" in line or "store available again" in line]
        back = ["available again" in line for line in said]
        # More often than once where the election is not the last.
        assert back == [False, True] * max(1, len(back) // 2), said
    cluster.check_nodes()
