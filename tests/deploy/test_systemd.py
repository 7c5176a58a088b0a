"""The unit for systemd, as systemd reads it, and what it tells the server."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.config import parse
from tests.deploy.settings import stop_seconds
from tests.harness.server_process import REPOSITORY

UNIT = REPOSITORY / "deploy" / "systemd" / "ebbtide.service"
EXPOSURE = 20
"""The most that systemd may find open: 100 is a service with every right, 20 is 2.0 as it shows it."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


def settings() -> dict[str, str]:
    """Each setting with its value; of those that occur twice, the last."""
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))


def analyze(unit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *words, str(unit)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is on this machine."""
    unit = tmp_path / UNIT.name
    text, replaced = re.subn(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text(), flags=re.MULTILINE)
    assert replaced == 1
    unit.write_text(text)
    return unit


@needs_systemd
def test_systemd_knows_every_setting(installed: Path) -> None:
    good = analyze(installed, "verify")
    assert (good.returncode, good.stdout + good.stderr) == (0, "")
    installed.write_text(installed.read_text().replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in analyze(installed, "verify").stderr


@needs_systemd
def test_systemd_finds_it_confined(installed: Path) -> None:
    confined = analyze(installed, "security", "--offline=yes", f"--threshold={EXPOSURE}")
    assert confined.returncode == 0, confined.stdout
    installed.write_text(installed.read_text().replace("CapabilityBoundingSet=\n", ""))
    assert analyze(installed, "security", "--offline=yes", f"--threshold={EXPOSURE}").returncode != 0


def test_the_server_takes_what_it_is_told_and_writes_to_the_one_folder_that_it_may() -> None:
    unit = settings()
    _, *words = unit["ExecStart"].split()
    name, _, value = unit["Environment"].partition("=")
    config = parse(words[1:], {name: value, "EBBTIDE_JWKS_URL": "https://auth.example.org/keys"})
    assert words[0] == "serve"
    assert str(config.data) == f"/var/lib/{unit['StateDirectory']}" == unit["WorkingDirectory"]
    assert float(unit["TimeoutStopSec"]) > stop_seconds(config)
    assert int(unit["LimitNOFILE"]) > config.limits.max_connections
