"""Revocations in the data folder: kept over a restart, and seen by every process on that folder within a moment."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from server.access.codec import MalformedRevocation, decode
from server.access.errors import RevocationNotSpread, RevocationsFull
from server.access.revocations import Revocation, Revocations
from server.connected import Came, Connection
from server.stores.errors import StoreUnusable
from server.stores.lane import Lane

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Between two looks at what other processes have written."""

LOCK_SECONDS = 2.0
"""How long another process may write before this one gives up."""

PAGE = 1_000
"""Rows that are read at a time."""

# A row is never changed but replaced, so that it gets a new number: whoever has read up to one reads on from there.
_TABLE = """
CREATE TABLE IF NOT EXISTS revocations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    at REAL NOT NULL
)"""
_WRITE = """
INSERT OR REPLACE INTO revocations (key, at)
VALUES (:key, max(:at, coalesce((SELECT at FROM revocations WHERE key = :key), :at)))"""
_FORGET = "DELETE FROM revocations WHERE at <= ?"
_READ = "SELECT number, CAST(key AS BLOB), CAST(at AS REAL) FROM revocations WHERE number > ? ORDER BY number LIMIT ?"


class _Row(NamedTuple):
    number: int
    member: bytes
    at: float


async def open_file_list(path: Path, revocations: Revocations, now: Callable[[], float] = time.time) -> FileList:
    """The list in the SQLite file at `path`, which is made when it is missing, with all that it holds learnt.

    Raises `StoreUnusable`.
    """
    lane = Lane("revocations")
    opened = FileList(lane, revocations, now)
    try:
        await opened.open(path)
    except sqlite3.Error as error:
        await opened.close()
        raise StoreUnusable(
            path, f"cannot be used as the list of revocations ({error}); remove it to start with none"
        ) from None
    return opened


class FileList:
    """A `Carrier` among the processes that share a data folder. Made by `open_file_list`."""

    def __init__(self, lane: Lane, revocations: Revocations, now: Callable[[], float]) -> None:
        self._lane = lane
        self._revocations = revocations
        self._now = now
        self._closed = False
        # Made, used and closed on the lane's thread.
        self._connection: sqlite3.Connection | None = None
        self._read_up_to = 0
        self._reading: Connection | None = None
        self._readable = True

    @property
    def healthy(self) -> bool:
        """See `Carrier.healthy`: whether the file could be read when it was last looked at."""
        return self._readable and self._reading is not None and self._reading.kept

    async def open(self, path: Path) -> None:
        """Learn what the file holds, and go on looking for what other processes write. Raises `sqlite3.Error`."""
        self._connection = await self._lane.run(_open, path, self._revocations.oldest())
        await self._read()
        self._reading = Connection(self._look, self._unreadable, (sqlite3.Error,), (POLL_SECONDS, POLL_SECONDS))

    async def spread(self, revocation: Revocation) -> None:
        """See `Carrier.spread`: the entry is on disk, and other processes read it within `POLL_SECONDS`."""
        try:
            await self._lane.run(self._write, revocation, self._revocations.oldest())
        except sqlite3.Error as error:
            log.error("revocation not written", extra={"reason": str(error)})
            raise RevocationNotSpread("the data folder cannot be written") from None

    async def close(self) -> None:
        """See `Carrier.close`."""
        if self._closed:
            return
        self._closed = True
        if self._reading is not None:
            await self._reading.close()
        await self._lane.run(self._disconnect)
        await self._lane.close()

    async def _read(self) -> None:
        """Learn what was written since it was read last."""
        while True:
            rows = await self._lane.run(self._rows)
            for row in rows:
                self._read_up_to = row.number
                try:
                    self._revocations.learn(decode(row.member, row.at, self._now()))
                except MalformedRevocation as error:
                    log.warning("revocation not understood", extra={"reason": str(error)})
                except RevocationsFull as error:
                    log.error("revocation of another process not taken in", extra={"limit": error.limit})
            if len(rows) < PAGE:
                return

    async def _look(self, came: Came) -> None:
        await self._read()
        self._readable = True
        came()

    def _unreadable(self, error: BaseException) -> None:
        if self._readable:
            log.warning("revocations of other processes not read", extra={"reason": str(error)})
        self._readable = False

    # On the lane's thread

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _rows(self) -> list[_Row]:
        assert self._connection is not None
        return [_Row(*row) for row in self._connection.execute(_READ, (self._read_up_to, PAGE))]

    def _write(self, revocation: Revocation, oldest: float) -> None:
        assert self._connection is not None
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_FORGET, (oldest,))
            connection.execute(_WRITE, {"key": revocation.key, "at": revocation.at})


def _open(path: Path, oldest: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_TABLE)
        connection.execute(_FORGET, (oldest,))
    except sqlite3.Error:
        connection.close()
        raise
    return connection
