"""The stock JavaScript clients against a running server: y-websocket 1.5, 2 and 3, @hocuspocus/provider 2, 3 and 4.

The cases are in `cases/`, and Node's test runner runs them. `EBBTIDE_CONFORMANCE_FILES` picks some of them by a glob.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Timer

import pytest

from tests.conformance.control import control
from tests.harness.server_process import ServerProcess

HERE = Path(__file__).parent
FILES = os.environ.get("EBBTIDE_CONFORMANCE_FILES", "*.test.mjs")
SUITE_SECONDS = 300.0
COUNT = re.compile(r"^\S+ (tests|pass|fail) (\d+)$", re.MULTILINE)


def test_stock_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(str(file.relative_to(HERE)) for file in (HERE / "cases").glob(FILES))
    assert files, f"no case matches {FILES}"
    command = [_node(), "--test", "--test-concurrency=2", "--test-reporter=spec", *files]
    secret = secrets.token_hex(32)
    with (
        ServerProcess(tmp_path / "open") as open_server,
        ServerProcess(tmp_path / "secure", open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": secret}) as secure_server,
        control(lambda name: ServerProcess(tmp_path / name)) as control_url,
        capsys.disabled(),
    ):
        addresses = {
            "EBBTIDE_URL": open_server.url,
            "EBBTIDE_SECURE_URL": secure_server.url,
            "EBBTIDE_TOKEN_SECRET": secret,
            "EBBTIDE_CONTROL_URL": control_url,
        }
        status, output = _run(command, addresses)
        counts = {name: int(number) for name, number in COUNT.findall(output)}
        print(f"Node: {counts.get('pass', 0)} passed, {counts.get('fail', 0)} failed")
        errors = open_server.errors + secure_server.errors
    assert status == 0
    assert counts["pass"] == counts["tests"] > 0, "a case did not run"
    assert "Traceback" not in errors, errors


def _node() -> str:
    """The `node` to use. Fails the test, and says what to do, where the clients cannot run."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is not installed: the stock clients need Node 20 or newer")
    if not (HERE / "node_modules").is_dir():
        pytest.fail("the stock clients are not installed: `make test` does it, or `npm ci` in tests/conformance")
    return node


def _run(command: Sequence[str], addresses: Mapping[str, str]) -> tuple[int, str]:
    """The exit status and the output, which is also shown while it comes. Killed after `SUITE_SECONDS`."""
    with subprocess.Popen(
        command,
        cwd=HERE,
        env={**os.environ, **addresses},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Node runs each file in a process of its own, and these go with their group only.
        start_new_session=True,
    ) as node:
        assert node.stdout is not None
        watchdog = Timer(SUITE_SECONDS, os.killpg, (node.pid, signal.SIGKILL))
        watchdog.start()
        try:
            lines = []
            for line in node.stdout:
                print(line, end="", flush=True)
                lines.append(line)
            return node.wait(), "".join(lines)
        finally:
            watchdog.cancel()
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
