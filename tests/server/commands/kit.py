"""Commands in processes of their own, as people run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.harness.server_process import REPOSITORY

PROGRESS = re.compile(r"ebbtide: (backup|copy|restore|verify): [\d,]+( of [\d,]+)? documents?, [\d,]+ entr(y|ies), [\d.]+ \w+")


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def fine(self) -> bool:
        """Whether it did all that it was to do, and said no more meanwhile than how far it was."""
        return self.status == 0 and all(PROGRESS.fullmatch(line) for line in self.err.splitlines())


def command(*arguments: str) -> list[str]:
    """The words that run `ebbtide ARGUMENTS`, in the folder of the repository."""
    return [sys.executable, "-m", "server", *arguments]


def ebbtide(*arguments: str, prepare: Callable[[], None] | None = None, **environ: str) -> Ended:
    """Run `ebbtide ARGUMENTS` to its end. `prepare` is called in its process before it begins."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
    done = subprocess.run(
        command(*arguments),
        cwd=REPOSITORY,
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=prepare,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def refused(ended: Ended) -> str:
    """The one line that a command said which could not do its work."""
    assert ended.status == 2, ended
    assert ended.out == ""
    assert ended.err.startswith("ebbtide: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    return ended.err[len("ebbtide: ") : -1]
