"""The folder where the workers of one machine meet: Unix sockets, which only this user may reach."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from server.config import ConfigError

NEWS, METRICS = "news", "metrics"
"""The folders in it, one for each thing that workers tell each other."""

MOST_PATH_BYTES = 80
"""Systems take a hundred bytes and a little for a socket's path, its name included."""


def make_meeting_place() -> TemporaryDirectory[str]:
    """The folder, gone when the context that it is ends. Raises `ConfigError` where there can be none."""
    try:
        made = TemporaryDirectory(prefix="ebbtide-")
    except FileNotFoundError:
        raise ConfigError(
            "workers need a folder for temporary files, and there is none that can be written to: name one with TMPDIR"
        ) from None
    if len(os.fsencode(made.name)) > MOST_PATH_BYTES:
        made.cleanup()
        raise ConfigError("workers meet in the folder for temporary files, and its path is too long: set TMPDIR=/tmp")
    for name in (NEWS, METRICS):
        (Path(made.name) / name).mkdir()
    return made
