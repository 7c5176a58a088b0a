from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.server_process import REPOSITORY

HEADING = "observed"

TESTS = """
from __future__ import annotations


def test_one(observe):
    observe("The primary is away: 3 s")


def test_two(observe):
    observe("Redis is away: 1 s")
    observe("Redis is back: 2 s")
    raise AssertionError


def test_quiet(observe):
    pass
"""


def lines_of(run: Path, *flags: str) -> list[str]:
    """The lines that pytest prints, with this project's settings, of the tests in the file `run`, one of which fails."""
    settings = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", *settings, *flags, str(run)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done
    return [line.strip("= ") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("flags", [[], ["--numprocesses", "2", "--dist", "loadfile"]], ids=["alone", "on workers"])
def test_each_observation_is_told_once_whether_its_test_passes_or_fails(tmp_path: Path, flags: list[str]) -> None:
    run = tmp_path / "test_of_two.py"
    run.write_text(TESTS)
    lines = lines_of(run, "--tb=no", *flags)
    told = [line for line in lines if line.endswith(" s")]
    assert sorted(told) == ["Redis is away: 1 s", "Redis is back: 2 s", "The primary is away: 3 s"]
    assert HEADING in lines


def test_nothing_is_told_where_nothing_was_observed(tmp_path: Path) -> None:
    run = tmp_path / "test_of_none.py"
    run.write_text("from __future__ import annotations\n\n\ndef test_fails():\n    raise AssertionError\n")
    assert HEADING not in lines_of(run)
