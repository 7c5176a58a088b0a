"""The demo itself, and that it can fail."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.demo.__main__ import demo
from tests.e2e.demo.session import Patch, Session, Step, load, make_up
from tests.harness.server_process import REPOSITORY, ServerProcess


async def test_a_made_up_session_survives_the_killed_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert await demo(make_up(seed=7, transactions=600), seed=7)
    printed = capsys.readouterr().out
    assert "SIGKILL to the server" in printed
    assert "a newcomer found all" in printed
    assert "100 %" in printed
    assert "SIGKILL to the server once more" in printed
    assert "both replicas and the server hold the expected text" in printed


async def test_a_different_end_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    session = make_up(seed=1, transactions=60)
    assert not await demo(replace(session, end=session.end + "!"), seed=1)
    assert capsys.readouterr().out.rstrip().endswith("FAILED: the texts differ")


class Forgetful(ServerProcess):
    """A server that had confirmed its last edits before it wrote them."""

    def kill(self) -> None:
        super().kill()
        with closing(sqlite3.connect(self.data / "ebbtide.sqlite")) as database, database:
            ((number,),) = database.execute("SELECT max(number) FROM entries")
            if number is None:
                return
            kept = number - 3
            database.execute("DELETE FROM entries WHERE number > ?", (kept,))
            database.execute("DELETE FROM marks WHERE number > ?", (kept,))
            database.execute("UPDATE heads SET (head, number) = (SELECT seq, number FROM entries WHERE number = ?)", (kept,))


async def test_a_server_that_loses_what_it_confirmed_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert not await demo(make_up(seed=7, transactions=600), seed=7, kind=Forgetful)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"FAILED: the server confirmed [\d,]+ edits before it was killed and lacks \d+ of them", last)


async def test_a_session_without_a_kill_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(([Step(0, [Patch(0, 0, "a")])], []), "a")
    assert not await demo(session, seed=1)
    printed = capsys.readouterr().out
    assert "both replicas and the server hold the expected text" in printed
    assert printed.rstrip().endswith("choose a longer one")


async def test_the_beginning_of_a_recorded_session(traces: Path) -> None:
    assert await demo(load(traces / "friendsforever.json.gz", limit=1500), seed=1)


def test_made_up_sessions_repeat_and_are_concurrent() -> None:
    session = make_up(seed=3, transactions=500)
    assert session == make_up(seed=3, transactions=500)
    assert session.end != make_up(seed=4, transactions=500).end
    assert not session.is_ascii
    first, second = session.authors
    assert any(step.seen not in (0, len(second)) for step in first)
    assert any(patch.deleted for step in second for patch in step.patches)


def test_a_trace_is_read_with_its_causes(tmp_path: Path) -> None:
    transactions = [
        {"agent": 0, "parents": [], "patches": [[0, 0, "ab"]]},
        {"agent": 1, "parents": [0], "patches": [[2, 0, "c"]]},
        {"agent": 0, "parents": [0], "patches": [[0, 1, ""]]},
        {"agent": 1, "parents": [1, 2], "patches": [[1, 0, "d"]]},
    ]
    trace = {"kind": "concurrent", "numAgents": 2, "endContent": "bdc", "txns": transactions}
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps(trace).encode()))
    first = [Step(0, [Patch(0, 0, "ab")]), Step(0, [Patch(0, 1, "")])]
    second = [Step(1, [Patch(2, 0, "c")]), Step(2, [Patch(1, 0, "d")])]
    assert load(path) == Session((first, second), "bdc")
    assert load(path, limit=4) == load(path)
    assert load(path, limit=3).end == "bc"


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bno gzip", b"[]", b'{"kind": "sequential", "numAgents": 1}'])
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        load(path)


async def test_the_command_refuses_a_file_that_is_not_there() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.e2e.demo",
        "--trace",
        "nowhere.json",
        cwd=REPOSITORY,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"nowhere.json" in errors
    assert b"Traceback" not in errors
