"""The stock JavaScript clients against a running server: y-websocket 1.5, 2 and 3, @hocuspocus/provider 2, 3 and 4.

The cases are in `cases/`, and Node's test runner runs them. `EBBTIDE_CONFORMANCE_FILES` picks some of them by a glob.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.control import control
from tests.harness.server_process import ServerProcess

HERE = Path(__file__).parent
FILES = os.environ.get("EBBTIDE_CONFORMANCE_FILES", "*.test.mjs")
SUITE_SECONDS = 300


def test_stock_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(str(file.relative_to(HERE)) for file in (HERE / "cases").glob(FILES))
    assert files, f"no case matches {FILES}"
    command = [_node(), "--test", "--test-concurrency=2", "--test-reporter=spec", *files]
    secret = secrets.token_hex(32)
    secured = ServerProcess(tmp_path / "secure", open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": secret})
    with (
        ServerProcess(tmp_path / "open") as anyone,
        secured,
        control(lambda name: ServerProcess(tmp_path / name)) as control_url,
    ):
        addresses = {
            "EBBTIDE_URL": anyone.url,
            "EBBTIDE_SECURE_URL": secured.url,
            "EBBTIDE_TOKEN_SECRET": secret,
            "EBBTIDE_CONTROL_URL": control_url,
        }
        node = subprocess.run(
            command,
            cwd=HERE,
            env={**os.environ, **addresses},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SUITE_SECONDS,
        )
        errors = anyone.errors + secured.errors
    counts = {name: int(number) for name, number in re.findall(r"^\S+ (\w+) (\d+)$", node.stdout, re.MULTILINE)}
    with capsys.disabled():
        print(f"\n{node.stdout}")
        print(f"Node: {counts.get('pass', 0)} passed, {counts.get('fail', 0)} failed")
    assert node.returncode == 0
    assert counts["pass"] == counts["tests"] > 0, "a case did not run"
    assert "Traceback" not in errors, errors


def _node() -> str:
    """The `node` to use. Fails the test, with what to do, where the clients cannot run."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is not installed: the stock clients need Node 20 or newer")
    if not (HERE / "node_modules").is_dir():
        pytest.fail("the stock clients are not installed: `make test` does it, or `npm ci` in tests/conformance")
    return node
