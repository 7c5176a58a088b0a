"""Three nodes behind nginx are restarted in turn under load: no edit is lost, and clients meet nothing but a reconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.stores.mongo import open_mongo
from tests.harness.mongod import ReplicaSet
from tests.harness.nginx import Nginx
from tests.harness.observed import Observe
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess
from tests.nodes.load import Load
from tests.nodes.stock import StockClients

STOCK = "one"
"""The document that the stock clients are on, beside the others."""


@pytest.fixture
def replica_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path / "mongo") as replica_set:
        yield replica_set


@pytest.fixture
def nodes(tmp_path: Path, replica_set: ReplicaSet) -> Iterator[list[ServerProcess]]:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        arguments = ("--store", replica_set.url("ebbtide"), "--bus", redis.url, "--drain-notice-seconds", "0.3")
        yield [stack.enter_context(ServerProcess(tmp_path / f"node{number}", *arguments)) for number in range(3)]


async def test_three_nodes_are_restarted_in_turn(
    tmp_path: Path, replica_set: ReplicaSet, nodes: list[ServerProcess], observe: Observe
) -> None:
    with Nginx(tmp_path / "nginx", [node.port for node in nodes]) as nginx:
        async with Load(nginx.url, tmp_path) as load, StockClients(nginx.url, STOCK) as stock:
            await load.goes_on()
            for node in nodes:
                assert await asyncio.to_thread(node.stop) == 0
                await load.goes_on(50)
                await asyncio.to_thread(node.start)
                await load.goes_on(50)
            load.ledger.written[STOCK] |= await stock.stop()
            converged = await load.converges()
            theirs = await stock.expect(len(load.ledger.written[STOCK]))
            await load.judge(lambda: open_mongo(replica_set.url("ebbtide")))
        for marks in theirs["marks"]:
            assert sorted(marks) == sorted(load.ledger.written[STOCK])
        assert theirs["failures"] == []
        assert theirs["unsynced"] == 0
        # A reconnect and nothing else: 1012 from a node that stops, 1006 when it was faster than its frame.
        assert set(theirs["closes"]) <= {1012, 1006}
        assert "close 1012" in load.ledger.met
        assert set(load.ledger.met) <= {"close 1012", "close 1006"}, load.ledger.met
    for node in nodes:
        assert "Traceback" not in node.errors
        assert "not durable" not in node.errors
    observe(f"Three nodes restarted in turn: {load.summary(converged)}; stock clients met: {theirs['closes']}")
