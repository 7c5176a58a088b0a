"""What several files here have: a client, and one Redis and one server, whose patience for silence is short, for a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An open server with a short patience for silence, shared by the tests: each has to leave it in working order."""
    with ServerProcess(tmp_path_factory.mktemp("open"), "--handshake-seconds", "1") as process:
        yield process


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    # A connection for each request: nodes are killed meanwhile.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield session
