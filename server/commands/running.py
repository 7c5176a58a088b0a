"""How a command that does its work and ends is run: what it prints when it cannot, and with which status it ends."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Coroutine
from typing import Any

from server.archive.errors import ArchiveError
from server.archive.report import Report, documents
from server.logs import configure
from server.memory import deepen_stack
from sync.rooms.errors import RoomError, StoreUnavailable

OK, DAMAGED, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: done; done but for documents that were named; not done, and one line says why; Ctrl-C."""


def run(work: Coroutine[Any, Any, int], report: Report) -> int:
    """Run to the end; the exit status. Every failure that a user can mend is one line on standard error."""
    configure("text", "error")
    # Documents are applied here as they are in a server.
    deepen_stack()
    try:
        return asyncio.run(work)
    except StoreUnavailable as error:
        said = f"{error.reason}; run the same again to go on"
    except (RoomError, ArchiveError) as error:
        said = error.reason
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        said = f"{place}{error.strerror or error}; {_advice(error)}"
    except sqlite3.Error as error:
        said = f"the backup's index, or a temporary file, cannot be used: {error}"
    except KeyboardInterrupt:
        report.end()
        print("ebbtide: interrupted; run the same again to go on", file=sys.stderr)
        return INTERRUPTED
    report.end()
    print(f"ebbtide: {said}", file=sys.stderr)
    return REFUSED


def _advice(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is in the place of a folder; name another"
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
        return "make it so that it can be used, or name another"
    return "run the same again to go on"


def finish(report: Report, done: str) -> int:
    """Say what was done, and how many documents something was wrong with; the exit status."""
    report.end()
    print(done)
    if not report.troubles:
        return OK
    report.line(f"something is wrong with {documents(report.troubles)}, named above")
    return DAMAGED
