"""What every suite shares: the editing traces, the server process, what tests observed, and a closing line that counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.observed import Observe, observed, observer
from tests.harness.server_process import REPOSITORY, ServerProcess


@pytest.fixture(scope="session")
def traces() -> Path:
    """The folder of recorded editing sessions. Skips where there is none; in CI that is a failure."""
    folder = Path(os.environ.get("EBBTIDE_TRACES", REPOSITORY.parent / "shared" / "traces"))
    if not (folder / "friendsforever.json.gz").is_file():
        message = f"no editing traces in {folder}; EBBTIDE_TRACES names their folder"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running open server with a store of its own."""
    with ServerProcess(tmp_path / "data") as process:
        yield process


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Observe:
    """Tells whoever runs the tests a line, at the end."""
    return observer(request.node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests observed: a line each."""
    lines = list(observed(report for reports in terminalreporter.stats.values() for report in reports))
    if lines:
        terminalreporter.section("observed")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line, in one form for people and CI: an error in a fixture is a failure."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not config.option.collectonly:
        passed, failed, errors, skipped = (
            len(reporter.stats.get(each, ())) for each in ("passed", "failed", "error", "skipped")
        )
        reporter.write_line(f"{passed} passed, {failed + errors} failed" + (f", {skipped} skipped" if skipped else ""))
