"""A real server for the tests of its client, started from the repository that both live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbtide_client import Settings
from tests.harness.server_process import ServerProcess

QUICK = Settings(first_delay=0.05, longest_delay=0.2, gather=0.0, pull_interval=0.1, confirm_after=0.3)
"""For tests that wait for a reconnect, a pull or a confirmation."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running open server with a store of its own."""
    with ServerProcess(tmp_path / "data") as process:
        yield process


@pytest.fixture
def quick() -> Settings:
    return QUICK
