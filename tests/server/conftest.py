"""What the suites of adapters share: one mongod for all, with a database of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.mongod import ReplicaSet


@pytest.fixture(scope="session")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A replica set of one member. Who stops it lets it go on."""
    with ReplicaSet(tmp_path_factory.mktemp("mongo")) as replica_set:
        yield replica_set


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ReplicaSet]:
    """A replica set of one member that a test may kill: one with little in it is back soon."""
    with ReplicaSet(tmp_path / "mongo") as replica_set:
        yield replica_set


@pytest.fixture
def url(replica_set: ReplicaSet) -> str:
    """The address of a database that nobody used before."""
    return replica_set.url(f"test_{secrets.token_hex(4)}")
