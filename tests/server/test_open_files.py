"""The server takes as many open files as it may have, and says when those are too few."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.harness.server_process import ServerProcess

SOFT, HARD = 64, 400


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("connections", "warned"), [("300", []), ("301", ["limit=400 needed=401"])])
def test_the_limit_on_open_files(tmp_path: Path, workers: int, connections: str, warned: list[str]) -> None:
    arguments = ("--workers", str(workers), "--max-connections", connections)
    with ServerProcess(tmp_path, *arguments, prepare=few_files) as server:
        for pid in (server.pid, *server.workers):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (HARD, HARD)
        said = [line for line in server.errors.splitlines() if "limit on open files too low" in line]
    assert [line[-len("limit=400 needed=401") :] for line in said] == warned
