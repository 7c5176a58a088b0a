"""Commands in processes of their own, as people run them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from tests.harness.server_process import REPOSITORY

PATIENCE = 120.0


class Ended(NamedTuple):
    """How a command ended. `peak` is the most memory that it had at a time, in KiB."""

    status: int
    out: str
    err: str
    peak: int


def start(*arguments: str, prepare: Callable[[], None] | None = None, **environ: str) -> subprocess.Popen[str]:
    """`ebbtide ARGUMENTS`, running. `prepare` is called in its process before it begins."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "server", *arguments],
        cwd=REPOSITORY,
        env=clean | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def ebbtide(*arguments: str, prepare: Callable[[], None] | None = None, **environ: str) -> Ended:
    """Run `ebbtide ARGUMENTS` to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *arguments],
            cwd=REPOSITORY,
            env=clean | environ,
            stdout=out,
            stderr=err,
            preexec_fn=prepare,
        )
        # Not `wait`: it would not say how much memory the process had.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Ended(process.returncode, out.read(), err.read(), usage.ru_maxrss)


def refused(ended: Ended) -> str:
    """The one line that a command said which could not do its work."""
    assert ended.status == 2, ended
    assert ended.out == ""
    assert ended.err.startswith("ebbtide: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    return ended.err[len("ebbtide: ") : -1]
