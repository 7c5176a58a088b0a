"""What a container is to the image's programs, without an engine: a root of their own, a user, and no rights.

The root holds this machine's programs, read-only, and what is under a folder. It needs to be made by root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SHARED = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/usr", sys.base_prefix)
"""What of this machine is seen inside: what the interpreter and a shell need."""

ENTER = """
set -eu
root=$1 writable=$2 shared=$3 user=$4 cwd=$5
shift 5
mount --make-rprivate /
mount --bind "$root" "$root"
for path in $shared; do
  [ -e "$path" ] || continue
  mkdir -p "$root$path"
  mount --rbind "$(readlink -f "$path")" "$root$path"
  case $path in /dev | /proc) ;; *) mount -o remount,bind,ro "$root$path" ;; esac
done
if [ -n "$writable" ]; then
  mkdir -p "$root$writable"
  mount --bind "$root$writable" "$root$writable"
  mount -o remount,bind,ro "$root"
fi
exec chroot "$root" setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --bounding-set=-all \\
  --no-new-privs env --ignore-environment --chdir="$cwd" "$@"
"""


def require_root() -> None:
    """End the test where no root can be made: skipped, but in CI a failure."""
    if os.geteuid() != 0 or sys.platform != "linux":
        message = "the image's steps need mounts of their own: run this test as root on Linux"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


def start(
    root: Path, words: list[str], environ: Mapping[str, str], *, user: int, cwd: str, only_writable: str = "", **popen: Any
) -> subprocess.Popen[str]:
    """Start a command inside `root` as `user`, with `environ` alone and without capabilities.

    With `only_writable`, a path inside, nothing else can be written to, whoever owns it. `popen` goes to `Popen`.
    """
    command = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(root), only_writable, " ".join(SHARED), str(user), cwd]
    variables = [f"{name}={value}" for name, value in environ.items()]
    return subprocess.Popen([*command, *variables, *words], text=True, **popen)
