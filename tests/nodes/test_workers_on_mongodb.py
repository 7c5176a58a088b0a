"""Workers of one machine on MongoDB, with Redis between them and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.stores.mongo import open_mongo
from tests.harness.mongod import ReplicaSet
from tests.harness.observed import Observe
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess
from tests.nodes.load import Load


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("mongo")) as replica_set:
        yield replica_set


@pytest.mark.parametrize("with_redis", [True, False])
async def test_workers_share_a_replica_set(tmp_path: Path, replica_set: ReplicaSet, with_redis: bool, observe: Observe) -> None:
    url = replica_set.url(f"workers_{with_redis}")
    with RedisServer(tmp_path / "redis") as redis:
        bus = ("--bus", redis.url) if with_redis else ()
        with ServerProcess(tmp_path / "data", "--workers", "2", "--store", url, *bus) as server:
            async with Load(server.url, tmp_path, ["one"]) as load:
                await load.goes_on()
                converged = await load.converges()
                await load.judge(lambda: open_mongo(url))
            assert load.ledger.met == {}
            assert server.stop() == 0
            assert "Traceback" not in server.errors
    observe(f"Two workers on MongoDB {'with' if with_redis else 'without'} Redis: {load.summary(converged)}")
