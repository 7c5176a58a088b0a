"""A real server for the tests of its client, started from the repository that both live in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from ebbtide_client import Settings
from tests.harness.server_process import ServerProcess

SECRET = "a secret for tests, longer than 32 bytes"


class Mint:
    """Signs tokens that the guarded server accepts."""

    def __call__(self, role: str, documents: str = "*", lasts: float = 600.0) -> str:
        claims = {"sub": role, "exp": time.time() + lasts, "documents": {documents: role}}
        return jwt.encode(claims, SECRET, algorithm="HS256")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running open server with a store of its own."""
    with ServerProcess(tmp_path / "data") as process:
        yield process


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server that wants tokens of `mint`."""
    with ServerProcess(tmp_path / "data", open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": SECRET}) as process:
        yield process


@pytest.fixture
def mint() -> Mint:
    return Mint()


@pytest.fixture
def quick() -> Settings:
    """For tests that wait for a reconnect, a pull or a confirmation."""
    return Settings(first_delay=0.05, longest_delay=0.2, gather=0.0, pull_interval=0.1, confirm_after=0.3)
