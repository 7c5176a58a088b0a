"""`ebbtide copy`: from one store into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from server import values
from server.archive.copy import copy
from server.archive.report import Report
from server.commands.places import DRIVER_OPTIONS, Location, storage_from, usage
from server.commands.running import finish
from server.commands.running import run as run_to_the_end
from server.options import ConfigError, Word, read_settings

USAGE = usage(
    "copy",
    "Put all documents of a store into another one, which must be empty. A copy that was interrupted goes on when it is run "
    "again. A store is sqlite:FOLDER, the folder that `ebbtide serve --data` names, or mongodb://HOST/DATABASE.",
    (Word("SOURCE", values.text, "store to copy from; it may be in use"), Word("TARGET", values.text, "store to copy into")),
    options=DRIVER_OPTIONS,
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Copy; the exit status. Raises `ConfigError`."""
    settings = read_settings(USAGE, argv, environ)
    source, target = (_location(name, settings) for name in ("SOURCE", "TARGET"))
    if settings["SOURCE"] == settings["TARGET"]:
        raise ConfigError("SOURCE and TARGET are the same store")
    report = Report("copy")
    return run_to_the_end(_copy(source, target, report), report)


async def _copy(source: Location, target: Location, report: Report) -> int:
    async with source.opened(must_exist=True) as from_, target.opened(must_exist=False) as into:
        await copy(from_, into, report)
    return finish(report, f"copied: {report.counts()}")


def _location(name: str, settings: Mapping[str, Any]) -> Location:
    place: str = settings[name]
    kind, _, path = place.partition(":")
    if kind == "sqlite" and path:
        return Location(storage_from("", settings), Path(path))
    if kind in ("mongodb", "mongodb+srv"):
        return Location(storage_from(place, settings), Path())
    # Never the text itself: it may hold a password.
    raise ConfigError(f"{name} takes sqlite:FOLDER or mongodb://HOST/DATABASE")
