"""`ebbtide restore`: from a backup into a store, as it was at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from server import values
from server.archive.archive import Archive
from server.archive.report import Report
from server.archive.restore import refuse_nothing, refuse_unknown, restore
from server.commands.places import Location, usage
from server.commands.running import finish
from server.commands.running import run as run_to_the_end
from server.options import Option, Word, read_settings

USAGE = usage(
    "restore",
    "Put a backup into a store, which must be empty. A restore that was interrupted goes on when it is run again.",
    (Word("FOLDER", values.path, "folder of the backup"),),
    (
        Option("--at", values.moment, None, "time up to which entries are restored: 2026-11-25T20:15:00Z; UTC without a zone"),
        Option("--document", values.document, (), "restore this document alone; repeatable", repeatable=True),
        Option("--beside", values.boolean, False, "restore beside documents that the store has; those are left as they are"),
    ),
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Restore; the exit status. Raises `ConfigError`."""
    settings = read_settings(USAGE, argv, environ)
    report = Report("restore")
    return run_to_the_end(_restore(Location.from_settings(settings), settings, report), report)


async def _restore(location: Location, settings: Mapping[str, Any], report: Report) -> int:
    at = settings["--at"]
    with Archive(settings["FOLDER"], write=False) as archive:
        made = archive.progress.time
        if at is not None and at > made:
            report.line(f"the backup was brought up to date at {_shown(made)}; nothing later can be in it")
        # Before a store is made for nothing.
        refuse_unknown(archive, settings["--document"])
        if at is not None:
            refuse_nothing(archive, at, settings["--document"])
        async with location.opened(must_exist=False) as store:
            await restore(archive, store, report, at=at, documents=settings["--document"], beside=settings["--beside"])
    moment = f" as of {_shown(at)}" if at is not None else ""
    return finish(report, f"restored{moment} into {location}: {report.counts()}")


def _shown(milliseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError):
        # In UTC it lies in a year that has more than four digits, or less than one.
        return f"{milliseconds} ms since 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
