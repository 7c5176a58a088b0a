"""The SQLite file: its tables, how a connection is opened, and what SQLite's errors mean to a caller.

The reasons for the tables and settings are in docs/design/sqlite-store.md.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from server.stores.errors import StoreUnusable
from sync.rooms.errors import RoomError, StoreCorrupted, StoreUnavailable

APPLICATION_ID = 0x45626264  # "Ebbd"
SCHEMA_VERSION = 1
MARK_EVERY = 128  # entries of a document between two marks, and so the longest needless walk of a read

_SCHEMA = """
CREATE TABLE documents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, lineage TEXT NOT NULL);
CREATE TABLE heads (document INTEGER PRIMARY KEY, head INTEGER NOT NULL, number INTEGER NOT NULL UNIQUE);
CREATE TABLE actors (id INTEGER PRIMARY KEY, author TEXT NOT NULL, device TEXT NOT NULL, UNIQUE (author, device));
CREATE TABLE entries (
    number INTEGER PRIMARY KEY, document INTEGER NOT NULL, seq INTEGER NOT NULL, previous INTEGER NOT NULL,
    actor INTEGER NOT NULL, time INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE TABLE marks (
    document INTEGER NOT NULL, seq INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (document, seq)
) WITHOUT ROWID;
CREATE TABLE snapshots (
    document INTEGER PRIMARY KEY, seq INTEGER NOT NULL, upload INTEGER NOT NULL, size INTEGER NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE uploads (id INTEGER PRIMARY KEY AUTOINCREMENT, begun INTEGER NOT NULL);
CREATE TABLE parts (
    id INTEGER PRIMARY KEY, upload INTEGER NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (upload, part)
);
CREATE TABLE probe (id INTEGER PRIMARY KEY, time INTEGER NOT NULL);
"""

_FEED = """
CREATE TABLE IF NOT EXISTS feed (name TEXT NOT NULL);
INSERT INTO feed SELECT lower(hex(randomblob(8))) WHERE NOT EXISTS (SELECT * FROM feed);
"""

_NAMES = """
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, document INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO names SELECT name, id FROM documents ORDER BY name;
"""

_CORRUPTED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
_REASONS = {
    sqlite3.SQLITE_BUSY: "another process holds the write lock",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "the file may not be accessed",
}


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection's lock was in the way."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translated(error: sqlite3.Error) -> RoomError:
    """The same failure in the words of the port."""
    code = _primary_code(error)
    if code in _CORRUPTED:
        return StoreCorrupted("", f"the database file is damaged: {error}")
    return StoreUnavailable(f"{_REASONS.get(code, 'the database refused')}: {error}")


@contextmanager
def translating() -> Iterator[None]:
    """Let no `sqlite3.Error` out: raises `StoreUnavailable` or `StoreCorrupted` in its place."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error


def open_connection(path: Path, lock_wait: float, cache_kib: int) -> sqlite3.Connection:
    """Connect to the store in `path`, made when missing or empty. Statements wait `lock_wait` seconds for a lock.

    The connection is in autocommit mode and never checkpoints by itself. Raises `StoreUnusable`, `StoreCorrupted`, and
    `StoreUnavailable` when another process keeps the file locked.
    """
    if path.is_dir():
        raise StoreUnusable(path, "is a directory; a file is needed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=lock_wait, isolation_level=None, cached_statements=256)
    except OSError as error:
        raise StoreUnusable(path, f"its directory cannot be made: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StoreUnusable(path, f"cannot be opened: {error}") from error
    try:
        _prepare(connection, path, lock_wait)
        for setting in (
            "synchronous=FULL",
            "wal_autocheckpoint=0",
            "journal_size_limit=67108864",
            "temp_store=MEMORY",
            "secure_delete=FAST",
            f"cache_size=-{cache_kib}",
        ):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.Error as error:
        connection.close()
        raise _unopened(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _unopened(error: sqlite3.Error, path: Path) -> RoomError:
    """`translated`, with what whoever started the command can do about it."""
    known = translated(error)
    if isinstance(known, StoreCorrupted):
        return StoreCorrupted("", f"{path}: {known.reason}; restore a backup into another folder, or name another with --data")
    if is_busy(error) or _primary_code(error) not in _REASONS:
        return StoreUnavailable(f"{path}: {known.reason}")
    return StoreUnusable(path, known.reason)


def _prepare(connection: sqlite3.Connection, path: Path, lock_wait: float) -> None:
    # In a transaction: another process may be making the tables between two looks.
    connection.execute("BEGIN")
    is_new = _is_new(connection, path)
    connection.execute("ROLLBACK")
    deadline = time.monotonic() + lock_wait
    while True:
        try:
            # Changing the mode fails at once, without waiting, while another process opens the same new file.
            mode = _value(connection, "PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreUnusable(path, f"its file system has no write-ahead log (journal mode is {mode!r})")
    if not is_new and _value(connection, "SELECT count(*) FROM sqlite_master WHERE name IN ('feed', 'names')") == 2:
        return
    connection.execute("BEGIN IMMEDIATE")
    if _is_new(connection, path):
        _execute_all(connection, _SCHEMA)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    # Files of the first days have no name of their own yet, and no second place for the names of documents.
    _execute_all(connection, _FEED)
    _execute_all(connection, _NAMES)
    connection.execute("COMMIT")


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(statement)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    application = _value(connection, "PRAGMA application_id")
    version = _value(connection, "PRAGMA user_version")
    if application == APPLICATION_ID:
        if version != SCHEMA_VERSION:
            raise StoreUnusable(path, f"has schema {version}; this version of Ebbtide reads schema {SCHEMA_VERSION}")
        return False
    if application or version or _value(connection, "SELECT count(*) FROM sqlite_master"):
        raise StoreUnusable(path, "is a database of another application")
    return True


def _value(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]


def record_lost(document: str) -> StoreCorrupted:
    """The file knows the document's name, and has no record of it, or no head."""
    return StoreCorrupted(document, "its record is lost, and nobody may begin it anew; ask the operator")


def insert_rows(connection: sqlite3.Connection, into: str, width: int, values: list[Any], after: str = "") -> None:
    """Insert the rows laid out one after another in `values`, `width` values each, in few and large statements.

    Each statement makes a thread give up the interpreter's lock and win it back, which takes milliseconds while the
    loop is busy; `executemany` does so for every row.
    """
    at, end, rows = 0, len(values), 256
    while at < end:
        while rows * width > end - at:
            rows //= 2
        connection.execute(_insert(into, width, rows, after), values[at : at + rows * width])
        at += rows * width


@lru_cache(maxsize=128)
def _insert(into: str, width: int, rows: int, after: str) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return f"INSERT INTO {into} VALUES {','.join([row] * rows)} {after}"  # noqa: S608  `into` and `after` are ours
