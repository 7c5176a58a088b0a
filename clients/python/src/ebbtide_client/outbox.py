"""The durable side of a client: each document's local log, and the edits that the server has not confirmed.

Edits become durable before the call that made them returns. What can be fetched or sent again (others' updates,
confirmations) is written in order with them but costs no fsync of its own: a loss of power may take it, a kill may not.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ebbtide_client.errors import OutboxFailed, OutboxInUse
from ebbtide_client.status import Rejected

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE device (id TEXT NOT NULL);
CREATE TABLE lineage (document TEXT PRIMARY KEY, lineage TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL, content BLOB NOT NULL);
CREATE INDEX log_by_document ON log (document, id);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL, content BLOB NOT NULL, code TEXT, reason TEXT
);
CREATE INDEX outbox_by_document ON outbox (document, id);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An edit on its way to the server. Ids rise in the order of the edits and are never used twice in one outbox."""

    id: int
    document: str
    lineage: str | None
    update: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as the last process left it."""

    updates: Sequence[bytes]
    lineage: str | None
    unsynced: int
    rejected: Sequence[Rejected]


class Outbox:
    """One SQLite file, owned by one `Client` at a time. Methods may be called from any thread; they block.

    Every method raises `OutboxFailed` when SQLite does, and then nothing of the call was written.
    """

    def __init__(self, path: str | Path) -> None:
        """Open or create. Raises `OutboxInUse` when another process has it, `OutboxFailed` when it is no outbox."""
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise OutboxFailed(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare()
            self.device: str = self._db.execute("SELECT id FROM device").fetchone()[0]
        except sqlite3.Error as error:
            self._db.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise OutboxInUse(f"{path} is open in another process or client") from None
            raise OutboxFailed(f"{path} cannot be opened: {error}") from error
        except OutboxFailed:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # Two clients on one outbox would compact each other's logs: the lock is held until the file is closed.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("BEGIN EXCLUSIVE")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO device VALUES (?)", (uuid.uuid4().hex,))
            self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._db.execute("COMMIT")
        if version not in (0, _SCHEMA_VERSION):
            raise OutboxFailed(f"the outbox has version {version}, this client reads version {_SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise OutboxFailed(f"the outbox cannot be written: {error}") from error

    def load(self, document: str) -> Stored:
        """The log in order, and what is unsynced or rejected. Asking creates nothing."""
        with self._transaction(durable=False) as db:
            log = db.execute("SELECT content FROM log WHERE document = ? ORDER BY id", (document,)).fetchall()
            lineage = db.execute("SELECT lineage FROM lineage WHERE document = ?", (document,)).fetchone()
            unsynced = db.execute("SELECT count(*) FROM outbox WHERE document = ? AND code IS NULL", (document,)).fetchone()
            rejected = db.execute(
                "SELECT id, document, content, code, reason FROM outbox WHERE document = ? AND code IS NOT NULL ORDER BY id",
                (document,),
            ).fetchall()
        return Stored(
            [row[0] for row in log], lineage[0] if lineage else None, unsynced[0], [Rejected(*row) for row in rejected]
        )

    def record(self, document: str, updates: Sequence[bytes]) -> None:
        """Put local edits into the log and the outbox. On return they survive a kill and a loss of power."""
        rows = [(document, update) for update in updates]
        with self._transaction(durable=True) as db:
            db.executemany("INSERT INTO log (document, content) VALUES (?, ?)", rows)
            db.executemany("INSERT INTO outbox (document, content) VALUES (?, ?)", rows)

    def receive(self, document: str, update: bytes) -> None:
        """Put what others wrote into the log."""
        with self._transaction(durable=False) as db:
            db.execute("INSERT INTO log (document, content) VALUES (?, ?)", (document, update))

    def set_lineage(self, document: str, lineage: str) -> None:
        """Keep the lineage that the server named; replaces an earlier one."""
        with self._transaction(durable=False) as db:
            db.execute("INSERT OR REPLACE INTO lineage VALUES (?, ?)", (document, lineage))

    def unsynced(self) -> dict[str, int]:
        """Documents with edits that wait to be sent, and how many."""
        with self._transaction(durable=False) as db:
            return dict(db.execute("SELECT document, count(*) FROM outbox WHERE code IS NULL GROUP BY document"))

    def pending(self, documents: Collection[str], after: int, max_entries: int, max_bytes: int) -> list[Entry]:
        """The oldest entries of `documents` above id `after`, within the bounds, but one if there is any."""
        marks = ",".join("?" * len(documents))
        entries: list[Entry] = []
        size = 0
        with self._transaction(durable=False) as db:
            rows = db.execute(
                "SELECT id, outbox.document, lineage, content FROM outbox LEFT JOIN lineage USING (document)"  # noqa: S608
                f" WHERE outbox.document IN ({marks}) AND id > ? AND code IS NULL ORDER BY id LIMIT ?",
                (*documents, after, max_entries),
            )
            for row in rows:
                entry = Entry(*row)
                size += len(entry.update)
                if entries and size > max_bytes:
                    break
                entries.append(entry)
        return entries

    def remove(self, ids: Collection[int]) -> int:
        """Forget entries that are durable on the server, and say how many were still here."""
        with self._transaction(durable=False) as db:
            return db.executemany("DELETE FROM outbox WHERE id = ?", [(id_,) for id_ in ids]).rowcount

    def replace(self, id_: int, update: bytes) -> None:
        """Let a waiting entry carry more than it did."""
        with self._transaction(durable=True) as db:
            db.execute("UPDATE outbox SET content = ? WHERE id = ?", (update, id_))

    def reject(self, id_: int, code: str, reason: str) -> bool:
        """Set an entry aside as refused. False when it was not waiting any more."""
        with self._transaction(durable=False) as db:
            return bool(
                db.execute("UPDATE outbox SET code = ?, reason = ? WHERE id = ? AND code IS NULL", (code, reason, id_)).rowcount
            )

    def retry(self, document: str) -> int:
        """Let rejected entries wait again, at their old places, and say how many."""
        with self._transaction(durable=True) as db:
            return db.execute(
                "UPDATE outbox SET code = NULL, reason = NULL WHERE document = ? AND code IS NOT NULL", (document,)
            ).rowcount

    def last(self, document: str) -> int:
        """The id of the document's newest log entry; 0 when it has none."""
        with self._transaction(durable=False) as db:
            row = db.execute("SELECT coalesce(max(id), 0) FROM log WHERE document = ?", (document,)).fetchone()
        return int(row[0])

    def compact(self, document: str, upto: int, state: bytes) -> None:
        """Replace the log up to and including `upto` by `state`, which holds all of it."""
        with self._transaction(durable=True) as db:
            db.execute("DELETE FROM log WHERE document = ? AND id <= ?", (document, upto))
            db.execute("INSERT INTO log (id, document, content) VALUES (?, ?, ?)", (upto, document, state))

    def discard(self, document: str) -> list[bytes]:
        """Forget a document, and hand out the edits of it that the server never confirmed."""
        with self._transaction(durable=True) as db:
            kept = db.execute("SELECT content FROM outbox WHERE document = ? ORDER BY id", (document,)).fetchall()
            for table in ("log", "outbox", "lineage"):
                db.execute(f"DELETE FROM {table} WHERE document = ?", (document,))  # noqa: S608 - a name from above
        return [row[0] for row in kept]

    def close(self) -> None:
        """Release the file. Idempotent; calls that follow raise `OutboxFailed`."""
        with self._lock:
            self._db.close()
