"""The documents that a SQLite file has anything of: a walk over its tables, beside the feed."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from server.archive.ports import Logged
from server.stores.lane import Lane
from server.stores.sqlite_file import open_connection, translating

ROWS = 1000

# What is no number is not counted here: whoever reads the document finds it.
_LOGGED = """
    SELECT coalesce(d.name, n.name, ''), max(iif(typeof(l.last) = 'integer', l.last, 0)) FROM (
        SELECT document, seq AS last FROM entries
        UNION ALL SELECT document, max(seq, floor) FROM snapshots
        UNION ALL SELECT document, head FROM heads
        UNION ALL SELECT id, 0 FROM documents
        UNION ALL SELECT document, 0 FROM names
    ) l LEFT JOIN documents d ON d.id = l.document LEFT JOIN names n ON n.document = l.document GROUP BY l.document"""


class SqliteListing:
    """A `server.archive.ports.LogListing` of the store in the file `path`; made by `open_sqlite_listing`."""

    def __init__(self, lane: Lane, connection: sqlite3.Connection) -> None:
        self._lane = lane
        self._connection = connection
        self._closed = False

    async def documents_in_log(self) -> AsyncIterator[Logged]:
        """`LogListing.documents_in_log`. One transaction: what it gives was so at one moment."""
        with translating():
            found = await self._lane.run(self._connection.execute, _LOGGED)
            try:
                while rows := await self._lane.run(found.fetchmany, ROWS):
                    for row in rows:
                        yield Logged(*row)
            finally:
                await self._lane.run(found.close)

    async def close(self) -> None:
        """`LogListing.close`."""
        if not self._closed:
            self._closed = True
            await self._lane.run(self._connection.close)
            await self._lane.close()


async def open_sqlite_listing(path: Path, *, lock_wait: float = 5.0) -> SqliteListing:
    """List what the store in the file `path` has. Raises as `open_sqlite` does."""
    lane = Lane("sqlite-listing")
    try:
        with translating():
            return SqliteListing(lane, await lane.run(_connect, path, lock_wait))
    except BaseException:
        await lane.close()
        raise


def _connect(path: Path, lock_wait: float) -> sqlite3.Connection:
    connection = open_connection(path, lock_wait, cache_kib=4096)
    # The entries are sorted by document on disk: there may be many.
    connection.execute("PRAGMA temp_store=FILE")
    return connection
