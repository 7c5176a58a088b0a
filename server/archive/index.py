"""Where in the segments of a backup a document's records lie: a SQLite file that is made from the segments alone.

It is one more cursor on them: it says up to which place it has read, and goes on from there. Whoever loses it loses time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from server.archive.frames import Damage, Entries, Part, Record
from server.archive.segments import Place

_VERSION = 2
_SCHEMA = """
CREATE TABLE progress (
    id INTEGER PRIMARY KEY, segment INTEGER, offset INTEGER, feed TEXT, cursor INTEGER, time INTEGER,
    documents INTEGER, pieces INTEGER, parts INTEGER
);
INSERT INTO progress VALUES (1, 0, 0, '', 0, 0, 0, 0, 0);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, lineage TEXT NOT NULL, head INTEGER NOT NULL,
    snapshot INTEGER NOT NULL DEFAULT 0, behind INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE pieces (
    document INTEGER, first INTEGER, last INTEGER, latest INTEGER, segment INTEGER, offset INTEGER,
    PRIMARY KEY (document, first), UNIQUE (document, last)
) WITHOUT ROWID;
CREATE TABLE parts (
    document INTEGER, seq INTEGER, part INTEGER, parts INTEGER, floor INTEGER, size INTEGER, taken INTEGER,
    segment INTEGER, offset INTEGER, PRIMARY KEY (document, seq, part)
) WITHOUT ROWID;
CREATE TABLE damage (name TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
"""


def _rows(table: str, texts: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> str:
    kinds = [f"typeof({column}) = 'text'" for column in texts] + [f"typeof({column}) = 'integer'" for column in numbers]
    return f"SELECT count(*) FROM {table} WHERE {' AND '.join(kinds)}"  # noqa: S608  the names are ours


_COUNTS = {
    "documents": _rows("documents", texts=("name", "lineage"), numbers=("head", "snapshot", "behind")),
    "pieces": _rows("pieces", numbers=("document", "first", "last", "latest", "segment", "offset")),
    "parts": _rows("parts", numbers=("document", "seq", "part", "parts", "floor", "size", "taken", "segment", "offset")),
}
"""How many rows there are that have values of the right kinds."""

_ORDER = {"progress": "id", "documents": "id", "pieces": "document, first", "parts": "document, seq, part", "damage": "name"}


class Progress(NamedTuple):
    """How far the index has read, and what the last commit there says."""

    end: Place = Place(0, 0)
    feed: str = ""
    cursor: int = 0
    time: int = 0


class Known(NamedTuple):
    """A document of the backup: the number of its last entry, that of its newest snapshot (0: none), and how many compressed
    bytes of entries follow that snapshot."""

    key: int
    lineage: str
    head: int
    snapshot: int
    behind: int


class Piece(NamedTuple):
    """Entries `first` to `last`, the latest of which was made at `latest`."""

    first: int
    last: int
    latest: int
    place: Place


class Kept(NamedTuple):
    """A snapshot at `seq`: see `frames.Part`."""

    seq: int
    floor: int
    size: int
    taken: int


class Index:
    """One index. Changes are seen at once, and kept by the `Commit` that follows them."""

    def __init__(self, path: Path) -> None:
        """Made when missing, and made anew when damaged, of another version, or short of rows.

        Raises `sqlite3.OperationalError`, and `OSError` when it cannot be removed.
        """
        self._database = _open(path)

    def progress(self) -> Progress:
        """As of the last commit."""
        segment, offset, feed, cursor, time = self._row("SELECT segment, offset, feed, cursor, time FROM progress")
        return Progress(Place(segment, offset), feed, cursor, time)

    def note(self, record: Record, place: Place, end: Place, size: int) -> None:
        """Take in a record that lies at `place`, takes `size` bytes, and ends at `end`.

        Raises `ValueError` for entries that do not follow what is there.
        """
        execute = self._database.execute
        if not self._database.in_transaction:
            execute("BEGIN")
        if isinstance(record, Entries):
            known = self._begun(record.document, record.lineage, 0)
            if record.first != known.head + 1:
                raise ValueError(f"entries {record.first} to {record.last} do not follow {known.head}")
            execute("INSERT INTO pieces VALUES (?, ?, ?, ?, ?, ?)", (known.key, *record[2:], *place))
            execute("UPDATE documents SET head = ?, behind = behind + ? WHERE id = ?", (record.last, size, known.key))
            execute("UPDATE progress SET pieces = pieces + 1")
        elif isinstance(record, Part):
            known = self._begun(record.document, record.lineage, record.floor)
            row = (record.seq, record.part, record.parts, record.floor, record.size, record.taken)
            of = (known.key, record.seq, record.part)
            before = execute("DELETE FROM parts WHERE document = ? AND seq = ? AND part = ?", of).rowcount
            execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (known.key, *row, *place))
            execute("UPDATE progress SET parts = parts + 1 - ?", (before,))
            # What came before the number at which the log begins now cannot be connected with what follows.
            head = max(known.head, record.floor)
            execute("UPDATE documents SET head = ?, snapshot = ?, behind = 0 WHERE id = ?", (head, record.seq, known.key))
        elif isinstance(record, Damage):
            execute("DELETE FROM damage WHERE name = ?", (record.document,))
            if record.reason:
                execute("INSERT INTO damage VALUES (?, ?)", record)
        else:
            execute("UPDATE progress SET segment = ?, offset = ?, feed = ?, cursor = ?, time = ?", (*end, *record))
            execute("COMMIT")

    def forget_uncommitted(self) -> None:
        """Back to the last commit."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def known(self, document: str) -> Known | None:
        """What there is of a document."""
        found = self._database.execute(
            "SELECT id, lineage, head, snapshot, behind FROM documents WHERE name = ?", (document,)
        ).fetchone()
        return Known(*found) if found else None

    def names(self) -> Iterator[str]:
        """Every document, in the order in which they came."""
        for (name,) in self._database.execute("SELECT name FROM documents ORDER BY id"):
            yield name

    def damaged(self) -> list[tuple[str, str]]:
        """Documents that could not be read in full from the store when the backup was made, and why."""
        return self._database.execute("SELECT name, reason FROM damage ORDER BY name").fetchall()

    def count(self) -> tuple[int, int]:
        """How many documents and entries there are."""
        (documents,) = self._row("SELECT count(*) FROM documents")
        (entries,) = self._row("SELECT coalesce(sum(last - first + 1), 0) FROM pieces")
        return documents, entries

    def beginnings(self, key: int) -> list[int]:
        """The numbers behind which a stretch of the log begins, the lowest first: one, unless it was compacted in between."""
        rows = self._database.execute(
            "SELECT first - 1 FROM pieces p WHERE document = ?1 "
            "AND NOT EXISTS (SELECT 1 FROM pieces q WHERE q.document = ?1 AND q.last = p.first - 1) "
            "UNION SELECT floor FROM parts WHERE document = ?1 "
            "AND NOT EXISTS (SELECT 1 FROM pieces q WHERE q.document = ?1 AND q.last >= floor) ORDER BY 1",
            (key,),
        )
        return [number for (number,) in rows]

    def pieces(self, key: int, after: int, upto: int) -> Iterator[Piece]:
        """The pieces that hold entries above `after`, up to `upto`, in order."""
        rows = self._database.execute(
            "SELECT first, last, latest, segment, offset FROM pieces "
            "WHERE document = ? AND last > ? AND first <= ? ORDER BY last",
            (key, after, upto),
        )
        for first, last, latest, segment, offset in rows:
            yield Piece(first, last, latest, Place(segment, offset))

    def end(self, key: int, after: int) -> int:
        """The last number of the stretch that begins behind `after`."""
        (following,) = self._row("SELECT min(first) FROM pieces WHERE document = ? AND first > ?", key, after)
        if following != after + 1:
            return after
        later = [number for number in self.beginnings(key) if number > after]
        (last,) = self._row(
            "SELECT max(last) FROM pieces WHERE document = ? AND first > ? AND last <= ?",
            key,
            after,
            later[0] if later else 2**62,
        )
        return int(last)

    def snapshots(self, key: int, floor: int, upto: int) -> list[Kept]:
        """The snapshots at numbers from `floor` up to `upto`, the newest first."""
        rows = self._database.execute(
            "SELECT seq, floor, size, taken FROM parts "
            "WHERE document = ? AND part = 0 AND seq BETWEEN ? AND ? ORDER BY seq DESC",
            (key, floor, upto),
        )
        return [Kept(*row) for row in rows]

    def parts(self, key: int, seq: int) -> list[Place]:
        """Where the parts of the snapshot at `seq` lie, in order."""
        rows = self._database.execute(
            "SELECT segment, offset FROM parts WHERE document = ? AND seq = ? ORDER BY part", (key, seq)
        )
        return [Place(*row) for row in rows]

    def agrees_with(self, other: Index) -> bool:
        """Whether both say the same of everything."""
        for table, order in _ORDER.items():
            rows = f"SELECT * FROM {table} ORDER BY {order}"  # noqa: S608  the names are ours
            ours, theirs = self._database.execute(rows), other._database.execute(rows)
            if any(one != another for one, another in zip_longest(ours, theirs)):
                return False
        return True

    def close(self) -> None:
        """Close; what is not committed is forgotten."""
        self.forget_uncommitted()
        self._database.close()

    def _begun(self, document: str, lineage: str, head: int) -> Known:
        new = self._database.execute(
            "INSERT INTO documents (name, lineage, head) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (document, lineage, head)
        ).rowcount
        self._database.execute("UPDATE progress SET documents = documents + ?", (new,))
        known = self.known(document)
        assert known is not None
        if known.lineage != lineage:
            raise ValueError("a document has two lineages")
        return known

    def _row(self, statement: str, *values: int) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._database.execute(statement, values).fetchone()
        return found


def _open(path: Path) -> sqlite3.Connection:
    for attempt in (1, 2):
        database = sqlite3.connect(path, isolation_level=None)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0 and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
                version = _VERSION
            if version == _VERSION and _adds_up(database):
                return database
        except sqlite3.OperationalError:
            database.close()
            raise
        except sqlite3.DatabaseError:
            if attempt == 2:
                raise
        database.close()
        path.unlink()
    raise AssertionError("unreachable")


def _adds_up(database: sqlite3.Connection) -> bool:
    """Whether the tables have the rows that were noted. What else may be wrong, `Archive.check` finds."""
    noted = "SELECT segment, offset, feed, cursor, time, documents, pieces, parts FROM progress"
    # In a transaction: another reader may be catching up.
    database.execute("BEGIN")
    progress = database.execute(noted).fetchone()
    counts = [database.execute(rows).fetchone()[0] for rows in _COUNTS.values()]
    database.execute("ROLLBACK")
    kinds = [int, int, str, int, int, int, int, int]
    return progress is not None and [type(value) for value in progress] == kinds and list(progress[5:]) == counts
