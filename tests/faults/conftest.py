"""One replica set for all faults, healed before each; nodes, a Redis and a database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.harness.partition import DividedSet
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

_databases = count()


@pytest.fixture(scope="session")
def healthy_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DividedSet]:
    with DividedSet(tmp_path_factory.mktemp("mongo")) as members:
        yield members


@pytest.fixture
def members(healthy_members: DividedSet) -> DividedSet:
    """Three mongods that work together, whatever the test before did to them."""
    healthy_members.recover()
    return healthy_members


@pytest.fixture
def cluster(tmp_path: Path, members: DividedSet) -> Iterator[Cluster]:
    """A cluster of two nodes that run."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        cluster = Cluster(tmp_path, members, redis, f"faults{next(_databases)}")
        for node in cluster.nodes:
            stack.callback(node.close)
        with ThreadPoolExecutor() as threads:
            list(threads.map(ServerProcess.start, cluster.nodes))
        yield cluster
