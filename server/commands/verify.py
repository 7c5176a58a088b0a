"""`ebbtide verify`: is everything in a store, or in a backup, as it should be?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from server import values
from server.archive.archive import Archive
from server.archive.report import Report
from server.archive.verify import verify_archive, verify_store
from server.commands.places import Location, usage
from server.commands.running import finish
from server.commands.running import run as run_to_the_end
from server.options import Word, read_settings

USAGE = usage(
    "verify",
    "Check every document: a log without holes, entries that apply, and a snapshot equal to what they give.",
    (Word("FOLDER", values.path, "a backup to check; without it, the store is checked", optional=True),),
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Verify; the exit status. Raises `ConfigError`."""
    settings = read_settings(USAGE, argv, environ)
    report = Report("verify")
    folder = settings["FOLDER"]
    work = _verify(Location.from_settings(settings), report) if folder is None else _verify_backup(folder, report)
    return run_to_the_end(work, report)


async def _verify(location: Location, report: Report) -> int:
    async with location.opened(must_exist=True) as store, location.listed() as listing:
        await verify_store(store, listing, report)
    return finish(report, f"verified {location}: {report.counts()}")


async def _verify_backup(folder: Path, report: Report) -> int:
    with Archive(folder, write=False) as archive:
        await verify_archive(archive, report)
    return finish(report, f"verified {folder}: {report.counts()}")
