"""The reading side of the SQLite store: queries, and the numbers that must add up before anyone sees an answer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from server.stores.sqlite_file import open_connection, record_lost
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Change, Changes, Entry, Stored

_LARGEST = 2**63 - 1  # an integer of SQLite

# From the entry numbered ?1 back along `previous`, down to ?2 + 1: those up to ?3, newest first. An entry of another
# document ends the walk, and so shows as a hole.
_CHAIN = """
    WITH RECURSIVE chain (number, seq, previous) AS (
        SELECT number, seq, previous FROM entries WHERE number = ?1 AND document = ?4
        UNION ALL
        SELECT e.number, e.seq, e.previous FROM chain JOIN entries e ON e.number = chain.previous
        WHERE chain.seq > ?2 + 1 AND e.document = ?4
    )
    SELECT e.seq, e.data, a.author, a.device, e.time
    FROM chain CROSS JOIN entries e ON e.number = chain.number JOIN actors a ON a.id = e.actor WHERE e.seq <= ?3"""

_FIND = """
    SELECT d.id, d.lineage, h.head, h.number, s.seq, s.upload, s.size, coalesce(s.floor, 0), e.seq
    FROM documents d LEFT JOIN heads h ON h.document = d.id LEFT JOIN snapshots s ON s.document = d.id
    LEFT JOIN entries e ON e.number = h.number AND e.document = d.id WHERE d.name = ?"""


class _Found(NamedTuple):
    """A log: where it ends, its snapshot, and the number up to which it was compacted."""

    key: int
    lineage: str
    head: int
    number: int
    snapshot_seq: int | None
    upload: int | None
    size: int
    floor: int


class Reader:
    """Owns a reading connection; runs on one thread. Methods raise `sqlite3.Error` beside what they name."""

    def __init__(self, path: Path, lock_wait: float) -> None:
        self._connection = open_connection(path, lock_wait, cache_kib=4096)
        try:
            self._feed = self._name_of_feed(path)
        except BaseException:
            self._connection.close()
            raise
        self._known: dict[str, int] = {}
        self._version = -1
        self._seen = 0

    def load(self, document: str) -> Stored:
        """`Store.load`."""
        with self._transaction():
            found = self._find(document)
            if found is None:
                return Stored()
            key, lineage, head, number, snapshot_seq, upload, size, _ = found
            packed: list[tuple[bytes]] = []
            if upload is not None:
                packed = self._connection.execute("SELECT data FROM parts WHERE upload = ? ORDER BY part", (upload,)).fetchall()
            entries = self._walk(document, key, number, snapshot_seq or 0, head)
        if upload is None:
            return Stored(lineage, head, 0, None, entries)
        return Stored(lineage, head, snapshot_seq or 0, _unpacked(document, packed, size), entries)

    def read(self, document: str, after: int, limit: int) -> Sequence[Entry]:
        """`Store.read`."""
        with self._transaction():
            found = self._find(document)
            if found is None:
                return []
            key, head, number, floor = found.key, found.head, found.number, found.floor
            after = max(after, floor)
            upto = min(head, after + limit)
            if upto <= after:
                return []
            mark = self._connection.execute(
                "SELECT number FROM marks WHERE document = ? AND seq >= ? ORDER BY seq LIMIT 1", (key, upto)
            ).fetchone()
            return self._walk(document, key, mark[0] if mark else number, after, upto)

    def heads(self, documents: Sequence[str]) -> dict[str, int]:
        """`Store.heads`. Remembers the answer and, next time, asks for what has been appended since."""
        with self._transaction():
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._refresh()
                self._version = version
            unknown = [document for document in documents if document not in self._known]
            if unknown:
                self._known.update(dict.fromkeys(unknown, 0))
                self._known.update(
                    self._connection.execute(
                        "SELECT d.name, h.head FROM documents d JOIN heads h ON h.document = d.id "
                        "WHERE d.name IN (SELECT value FROM json_each(?))",
                        (json.dumps(unknown),),
                    )
                )
        # What is no longer asked for is forgotten.
        self._known = {document: self._known[document] for document in documents}
        return {document: head for document, head in self._known.items() if head}

    def changes(self, since: int, limit: int) -> Changes:
        """`Store.changes`."""
        rows = self._connection.execute(
            "SELECT d.name, h.head, h.number FROM heads h JOIN documents d ON d.id = h.document WHERE h.number > ? "
            "ORDER BY h.number LIMIT ?",
            (max(0, min(since, _LARGEST)), min(limit, _LARGEST - 1) + 1),
        ).fetchall()
        page = rows[:limit]
        for name, head, number in page:
            if [type(name), type(head), type(number)] != [str, int, int]:
                raise StoreCorrupted(str(name), f"the feed has a value of the wrong kind for {name}")
        changes = [Change(name, head) for name, head, _ in page]
        return Changes(changes, page[-1][2] if page else since, len(rows) > limit, self._feed)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _refresh(self) -> None:
        (latest,) = self._connection.execute("SELECT coalesce(max(number), 0) FROM heads").fetchone()
        if self._known:
            changed = self._connection.execute(
                "SELECT d.name, h.head FROM heads h JOIN documents d ON d.id = h.document WHERE h.number > ?",
                (self._seen,),
            )
            self._known.update((name, head) for name, head in changed if name in self._known)
        self._seen = latest

    def _name_of_feed(self, path: Path) -> str:
        row = self._connection.execute("SELECT name FROM feed").fetchone()
        if row is None:
            raise StoreCorrupted("", f"{path}: the changes feed has lost its name; restore a backup into another folder")
        return str(row[0])

    def _find(self, document: str) -> _Found | None:
        """The document's log, whose head is the number of its newest entry, or the floor when all were compacted."""
        row = self._connection.execute(_FIND, (document,)).fetchone()
        if row is None:
            if self._connection.execute("SELECT 1 FROM names WHERE name = ?", (document,)).fetchone():
                raise record_lost(document)
            return None
        if row[2] is None:
            raise StoreCorrupted(document, "its head is lost")
        if not isinstance(row[1], str) or any(not isinstance(value, int | None) for value in row[2:]):
            raise StoreCorrupted(document, "its head, lineage or snapshot has a value of the wrong kind")
        found, newest = _Found(*row[:-1]), row[-1]
        if found.head != (found.floor if newest is None else newest) or found.head < 1:
            raise StoreCorrupted(document, f"its head is {found.head}, and no entry of that number is its newest")
        return found

    def _walk(self, document: str, key: int, number: int, after: int, upto: int) -> Sequence[Entry]:
        if upto <= after:
            return []
        rows: list[Any] = self._connection.execute(_CHAIN, (number, after, upto, key)).fetchall()
        rows.reverse()
        expected = after
        for row in rows:
            expected += 1
            if row[0] != expected:
                break
            if type(row[1]) is not bytes or type(row[2]) is not str or type(row[3]) is not str or type(row[4]) is not int:
                raise StoreCorrupted(document, f"entry {expected} has a value of the wrong kind")
        if expected != upto or len(rows) != upto - after:
            raise StoreCorrupted(document, f"entries {after + 1} to {upto} of the log are not all there")
        return [Entry(*row) for row in rows]


def _unpacked(document: str, packed: list[tuple[bytes]], size: int) -> bytes:
    if not all(isinstance(data, bytes) for (data,) in packed):
        raise StoreCorrupted(document, "a part of the snapshot is of the wrong kind")
    try:
        state = b"".join([zlib.decompress(data) for (data,) in packed])
    except zlib.error as error:
        raise StoreCorrupted(document, f"a part of the snapshot cannot be decompressed: {error}") from error
    if len(state) != size:
        raise StoreCorrupted(document, f"the snapshot has {len(state)} of its {size} bytes")
    return state
