"""What the suites of adapters share: one mongod for all, with a database of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.harness.mongod import ReplicaSet


@pytest.fixture(scope="session")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A replica set of one member. Who stops or kills it starts it again."""
    with ReplicaSet(tmp_path_factory.mktemp("mongo")) as replica_set:
        yield replica_set


@pytest.fixture
def url(replica_set: ReplicaSet) -> str:
    """The address of a database that nobody used before."""
    return replica_set.url(f"test_{secrets.token_hex(4)}")
