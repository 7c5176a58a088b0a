"""The programs that deploy/ is checked with, as `make parts` installs them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from tests.harness.program import PARTS, PartMissing
from tests.harness.server_process import REPOSITORY


def run(program: str, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """What the program prints, run in the repository. Fails the test with all it said when its status is not 0.

    `environ` is the whole environment; none unless given. Raises `PartMissing`.
    """
    path = PARTS / "bin" / program
    if not path.is_file():
        raise PartMissing(f"there is no {program}: `make parts` installs one")
    done = subprocess.run(
        [path, *arguments], cwd=REPOSITORY, env=dict(environ or {}), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout
