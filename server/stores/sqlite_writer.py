"""The writing side of the SQLite store: every transaction that changes the file, on one thread and one connection."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

from server.stores.sqlite_file import MARK_EVERY, insert_rows, is_busy, open_connection, record_lost
from sync.rooms.errors import StoreCorrupted, StoreUnavailable
from sync.rooms.ports import Adoption, Append, Appended, Conflict, Draft

CHECKPOINT_PAGES = 4096
COMPACTION_STEP = 1024  # entries that go in one transaction, so that appends get their turn between two
ABANDONED_AFTER = 3_600_000  # ms after which an upload that was never finished is swept away
CACHE_LIMIT = 100_000


# The greatest of everywhere: a document whose row is damaged or lost must not have its key or numbers given to another.
_LAST = """
    SELECT
        max(coalesce((SELECT max(number) FROM heads), 0), coalesce((SELECT max(number) FROM entries), 0)),
        max(
            coalesce((SELECT max(id) FROM documents), 0), coalesce((SELECT max(document) FROM heads), 0),
            coalesce((SELECT max(document) FROM marks), 0), coalesce((SELECT max(document) FROM snapshots), 0)
        )"""


class _Log:
    """What an append has to know of a document: its key, lineage, head, and the number of the entry at the head."""

    __slots__ = ("head", "key", "lineage", "number")

    def __init__(self, key: int, lineage: str, head: int, number: int) -> None:
        self.key = key
        self.lineage = lineage
        self.head = head
        self.number = number


class Writer:
    """Owns the writing connection. `lock_wait` is the seconds to wait for another process's transaction.

    Methods raise `sqlite3.Error` beside what they name; the store translates.
    """

    def __init__(self, path: Path, lock_wait: float) -> None:
        self._path = path
        self._lock_wait = lock_wait
        self._connection = open_connection(path, lock_wait, cache_kib=16_384)
        self._inode = path.stat().st_ino
        # Short, and repeated by `_transaction`: SQLite's own waiting grows to 100 ms between two looks, and loses every
        # race against a process that commits without a pause.
        self._connection.execute("PRAGMA busy_timeout=10")
        self._logs: dict[str, _Log] = {}
        self._actors: dict[tuple[str, str], int] = {}
        self._version = -1
        self._last_number = 0
        self._last_key = 0
        self._pages = 0.0
        self._pages_factor = 1.0

    def append(self, batch: Sequence[Append]) -> list[Appended | Conflict]:
        """`Store.append`."""
        now = repeat(_milliseconds())
        return self._put([(name, expected, drafts, now, lineage) for name, expected, drafts, lineage in batch])

    def adopt(self, batch: Sequence[Adoption]) -> list[Appended | Conflict]:
        """`Store.adopt`."""
        return self._put(
            [
                (name, expected, [Draft(*entry[1:4]) for entry in entries], [entry.time for entry in entries], lineage)
                for name, expected, entries, lineage in batch
            ]
        )

    def _put(self, batch: Sequence[tuple[str, int, Sequence[Draft], Iterable[int], str]]) -> list[Appended | Conflict]:
        """Put drafts, which have these times, behind a number of each document. Without drafts, begin its log there."""
        with self._transaction():
            self._look_up([document for document, *_ in batch])
            number, key = self._last_number, self._last_key
            entries: list[Any] = []
            heads: list[int] = []
            marks: list[int] = []
            created: list[Any] = []
            names: list[Any] = []
            floors: list[Any] = []
            answers: list[Appended | Conflict] = []
            new: dict[str, _Log] = {}
            written: list[tuple[_Log, int, int]] = []
            actors: dict[tuple[str, str], int] = {}
            size = 0
            for name, expected, drafts, times, lineage in batch:
                log = self._logs.get(name)
                if log is None:
                    if expected and drafts:
                        answers.append(Conflict(0, ""))
                        continue
                    key += 1
                    log = new[name] = _Log(key, lineage, expected, 0)
                    created += (key, name, lineage)
                    names += (name, key)
                    if expected:
                        # The feed has it under a number that is no entry's. Where its first entry points back to, and a
                        # snapshot's parts are looked for, there is nothing.
                        number += 1
                        log.number = number
                        floors += (key, 0, 0, 0, expected)
                        heads += (key, expected, number)
                elif log.head != expected or log.lineage != lineage:
                    answers.append(Conflict(log.head, log.lineage))
                    continue
                if not drafts:
                    answers.append(Appended(expected))
                    continue
                document, seq, previous = log.key, log.head, log.number
                for (update, author, device), time_ in zip(drafts, times, strict=False):
                    who = (author, device)
                    actor = self._actors.get(who) or actors.get(who) or self._intern(who, actors)
                    number += 1
                    seq += 1
                    entries += (number, document, seq, previous, actor, time_, update)
                    size += len(update)
                    previous = number
                    if seq % MARK_EVERY == 0:
                        marks += (document, seq, number)
                heads += (document, seq, number)
                answers.append(Appended(seq))
                written.append((log, seq, number))
            insert_rows(self._connection, "documents", 3, created)
            insert_rows(self._connection, "names", 2, names)
            insert_rows(self._connection, "snapshots", 5, floors)
            insert_rows(self._connection, "entries", 7, entries)
            insert_rows(self._connection, "marks", 3, marks)
            insert_rows(
                self._connection,
                "heads",
                3,
                heads,
                "ON CONFLICT (document) DO UPDATE SET head = excluded.head, number = excluded.number",
            )
        # Only now: what an aborted transaction would have made true must not be remembered.
        for log, seq, number in written:
            log.head, log.number = seq, number
        self._logs.update(new)
        self._actors.update(actors)
        self._last_number, self._last_key = number, key
        self._pages += 3 + (size + 24 * len(entries) // 7) / 4096
        return answers

    def begin_upload(self, document: str, seq: int) -> int | None:
        """A key for the parts of a snapshot at `seq` that come one by one; None when no snapshot is needed.

        Sweeps away what others began long ago and never finished. Raises `ValueError` when the document has no entry
        `seq`.
        """
        with self._transaction():
            if not self._needs_snapshot(document, seq):
                return None
            past = _milliseconds() - ABANDONED_AFTER
            for (upload,) in self._connection.execute("SELECT id FROM uploads WHERE begun < ?", (past,)).fetchall():
                self._drop_upload(upload)
            return self._new_upload()

    def add_part(self, upload: int, part: int, data: bytes) -> None:
        """Store one part. Nobody sees it before `keep_snapshot`."""
        with self._transaction():
            self._insert_part(upload, part, data)

    def keep_snapshot(self, document: str, seq: int, upload: int | None, parts: int, last: bytes, size: int) -> None:
        """Make the last part and those of `upload` the document's snapshot at `seq`, of a state of `size` bytes.

        Raises `ValueError` when the document has no entry `seq` and `StoreUnavailable` when the upload was swept away.
        """
        with self._transaction():
            if not self._needs_snapshot(document, seq):
                if upload is not None:
                    self._drop_upload(upload)
                return
            if upload is None:
                upload = self._new_upload()
            execute = self._connection.execute
            self._insert_part(upload, parts - 1, last)
            (held,) = execute("SELECT count(*) FROM parts WHERE upload = ?", (upload,)).fetchone()
            if held != parts:
                raise StoreUnavailable("the snapshot took so long that its parts were swept away")
            key = self._logs[document].key
            for (older,) in execute("SELECT upload FROM snapshots WHERE document = ?", (key,)).fetchall():
                self._drop_upload(older)
            execute("DELETE FROM uploads WHERE id = ?", (upload,))
            execute(
                "INSERT INTO snapshots (document, seq, upload, size) VALUES (?, ?, ?, ?) ON CONFLICT (document) "
                "DO UPDATE SET seq = excluded.seq, upload = excluded.upload, size = excluded.size",
                (key, seq, upload, size),
            )

    def compact(self, document: str, keep_after: int) -> tuple[int, bool]:
        """Drop the oldest entries, at most `COMPACTION_STEP`: how many went, and whether more are to go."""
        with self._transaction():
            execute = self._connection.execute
            self._look_up([document])
            log = self._logs.get(document)
            found = log and execute("SELECT seq, floor FROM snapshots WHERE document = ?", (log.key,)).fetchone()
            if not log or not found:
                return 0, False
            goal, floor = min(found[0], keep_after), found[1]
            upto = min(goal, floor + COMPACTION_STEP)
            if upto <= floor:
                return 0, False
            start = execute(
                "SELECT number FROM marks WHERE document = ? AND seq >= ? ORDER BY seq LIMIT 1", (log.key, upto)
            ).fetchone()
            chain = """
                DELETE FROM entries WHERE number IN (
                    WITH RECURSIVE chain (number, seq, previous) AS (
                        SELECT number, seq, previous FROM entries WHERE number = ?1 AND document = ?4
                        UNION ALL
                        SELECT e.number, e.seq, e.previous FROM chain JOIN entries e ON e.number = chain.previous
                        WHERE chain.seq > ?2 + 1 AND e.document = ?4
                    )
                    SELECT number FROM chain WHERE seq <= ?3
                )"""
            gone = execute(chain, (start[0] if start else log.number, floor, upto, log.key)).rowcount
            if gone != upto - floor:
                raise StoreCorrupted(document, f"entries {floor + 1} to {upto} of the log are not all there")
            execute("DELETE FROM marks WHERE document = ? AND seq <= ?", (log.key, upto))
            execute("UPDATE snapshots SET floor = ? WHERE document = ?", (upto, log.key))
        self._pages += gone
        return gone, upto < goal

    def check(self) -> None:
        """Write and commit something. Raises `StoreUnavailable` when the file went from under the connection."""
        try:
            in_place = self._path.stat().st_ino == self._inode
        except OSError:
            in_place = False
        if not in_place:
            raise StoreUnavailable(f"{self._path} was removed or replaced while it was open")
        with self._transaction():
            self._connection.execute("REPLACE INTO probe (id, time) VALUES (1, ?)", (_milliseconds(),))
        self._pages += 2

    def wants_checkpoint(self) -> bool:
        """Whether enough was committed since the last checkpoint; an estimate."""
        return self._pages * self._pages_factor >= CHECKPOINT_PAGES

    def checkpoint(self) -> None:
        """Bring what the write-ahead log holds into the database file, so that the log starts again at its beginning.

        Raises nothing: the next one makes up for it. The RESTART mode, because that takes the write lock: a passive
        checkpoint beside another process's commit can corrupt the file before SQLite 3.51.3
        (https://sqlite.org/wal.html#walresetbug).
        """
        if not self.wants_checkpoint():
            return
        busy, pages = 1, 0
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout=250")
            try:
                busy, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                self._connection.execute("PRAGMA busy_timeout=10")
        if not busy:
            # How many pages a commit dirties depends on how far apart its documents lie: the log's true length tells.
            self._pages_factor = max(1.0, pages / self._pages)
        self._pages = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        deadline = 0.0
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                deadline = deadline or now + self._lock_wait
                if not is_busy(error) or now >= deadline:
                    raise
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version or len(self._logs) > CACHE_LIMIT:
                self._forget()
            yield
            self._connection.execute("COMMIT")
            self._version = version
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._version = -1
            raise

    def _forget(self) -> None:
        self._logs.clear()
        self._last_number, self._last_key = self._connection.execute(_LAST).fetchone()

    def _look_up(self, documents: list[str]) -> None:
        documents = [document for document in documents if document not in self._logs]
        if documents:
            rows = self._connection.execute(
                "SELECT d.name, d.id, d.lineage, h.head, h.number FROM documents d JOIN heads h ON h.document = d.id "
                "WHERE d.name IN (SELECT value FROM json_each(?))",
                (json.dumps(documents),),
            )
            for name, key, lineage, head, number in rows:
                self._logs[name] = _Log(key, lineage, head, number)
            unknown = [document for document in documents if document not in self._logs]
            if unknown:
                self._refuse_lost(unknown)

    def _refuse_lost(self, unknown: list[str]) -> None:
        row = self._connection.execute(
            "SELECT name FROM names WHERE name IN (SELECT value FROM json_each(?)) LIMIT 1", (json.dumps(unknown),)
        ).fetchone()
        if row is not None:
            raise record_lost(row[0])

    def _intern(self, who: tuple[str, str], new: dict[tuple[str, str], int]) -> int:
        if len(self._actors) + len(new) > CACHE_LIMIT:
            self._actors.clear()
        execute = self._connection.execute
        execute("INSERT INTO actors (author, device) VALUES (?, ?) ON CONFLICT DO NOTHING", who)
        (new[who],) = execute("SELECT id FROM actors WHERE author = ? AND device = ?", who).fetchone()
        return new[who]

    def _needs_snapshot(self, document: str, seq: int) -> bool:
        self._look_up([document])
        log = self._logs.get(document)
        if log is None or not 0 < seq <= log.head:
            raise ValueError(f"the document has no entry {seq} to keep a snapshot at")
        kept = self._connection.execute("SELECT seq FROM snapshots WHERE document = ?", (log.key,)).fetchone()
        return kept is None or bool(kept[0] < seq)

    def _new_upload(self) -> int:
        return self._connection.execute("INSERT INTO uploads (begun) VALUES (?)", (_milliseconds(),)).lastrowid or 0

    def _insert_part(self, upload: int, part: int, data: bytes) -> None:
        self._connection.execute("INSERT INTO parts (upload, part, data) VALUES (?, ?, ?)", (upload, part, data))
        self._pages += 5 + len(data) / 4096

    def _drop_upload(self, upload: int) -> None:
        self._connection.execute("DELETE FROM parts WHERE upload = ?", (upload,))
        self._connection.execute("DELETE FROM uploads WHERE id = ?", (upload,))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
