"""`ebbtide backup`: a folder follows the logs of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from server import values
from server.archive.archive import Archive
from server.archive.backup import back_up
from server.archive.report import Report, documents, entries
from server.commands.places import Location, usage
from server.commands.running import finish
from server.commands.running import run as run_to_the_end
from server.options import Word, read_settings

USAGE = usage(
    "backup",
    "Bring a backup up to date with a store, which may be in use. The first time makes it; later runs add what is new.",
    (Word("FOLDER", values.path, "folder of the backup; made when it is missing"),),
)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Make or continue a backup; the exit status. Raises `ConfigError`."""
    settings = read_settings(USAGE, argv, environ)
    report = Report("backup")
    return run_to_the_end(_back_up(Location.from_settings(settings), settings["FOLDER"], report), report)


async def _back_up(location: Location, folder: Path, report: Report) -> int:
    async with location.opened(must_exist=True) as store:
        with Archive(folder, write=True) as archive:
            await back_up(store, archive, report)
            count = archive.count()
            cursor = archive.progress.cursor
    new = f"{report.entries:,} new {'entry' if report.entries == 1 else 'entries'} of {documents(report.documents)}"
    held = f"{documents(count[0])}, {entries(count[1])}, up to change {cursor}"
    return finish(report, f"backed up {location} into {folder}: {held}; {new}")
