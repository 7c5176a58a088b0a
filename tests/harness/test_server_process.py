from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.harness.server_process import ServerDidNotStart, ServerProcess


def alive(server: ServerProcess) -> bool:
    with urllib.request.urlopen(f"{server.url}/healthz", timeout=10) as response:
        return bool(response.status == 200)


def test_a_server_keeps_its_port_from_one_start_to_the_next(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        url, pid = server.url, server.pid
        assert alive(server)
        server.kill()
        server.start()
        assert server.url == url
        assert server.pid != pid
        assert alive(server)
        assert server.stop() == 0


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerDidNotStart, match="--token-secret-file"), ServerProcess(tmp_path, open_to_all=False):
        pass
