"""A backup: segments with the logs of documents, and an index that finds them. Written by one process, read by many."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from server.archive import frames
from server.archive.archive_log import ArchiveLog, last_entry, log_at
from server.archive.errors import ArchiveDamaged, ArchiveUnusable, NoTemporaryFolder
from server.archive.frames import Commit, Damage, Part, Record
from server.archive.index import Index, Known, Progress
from server.archive.logs import Snapshot
from server.archive.segments import INDEX, Segments, Skipped
from sync.rooms.ports import Entry

PART_BYTES = 1 << 20
"""Of a snapshot's state, before compression."""


class Archive:
    """A backup in a folder. A context manager: it closes on the way out, and what was not committed is forgotten."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        """Open a backup. A writer begins one when the folder is missing or empty.

        A reader goes on where bytes are damaged and the index has not passed them: see `skipped`. A writer refuses.
        Raises `ArchiveUnusable`, `ArchiveBusy`, `ArchiveDamaged`, `NoTemporaryFolder`, and `OSError`.
        """
        self._skipped: Skipped = []
        self._short: dict[str, ArchiveDamaged] = {}
        with ExitStack() as opened:
            self._segments = Segments(folder, write=write)
            opened.callback(self._segments.close)
            self._index = opened.enter_context(closing(self._current_index(folder, write, opened)))
            if write:
                self._segments.cut(self._index.progress().end)
            elif not self._index.progress().time:
                raise ArchiveUnusable(folder, "holds the beginning of a backup alone; run `ebbtide backup` on it again")
            self._opened = opened.pop_all()
        self.folder = folder
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    @property
    def progress(self) -> Progress:
        """As of the last commit."""
        return self._index.progress()

    @property
    def unfinished(self) -> bool:
        """Whether the first run never came to its end, so that documents may be missing."""
        return not self.progress.cursor and any(True for _ in self.names())

    @property
    def skipped(self) -> list[ArchiveDamaged]:
        """What could not be read when the index was made, so that documents may be missing or short without being named."""
        return [damage for damage, _ in self._skipped]

    @property
    def uncommitted(self) -> int:
        """Bytes written since the last commit."""
        return self._written

    def count(self) -> tuple[int, int]:
        """How many documents and entries there are."""
        return self._index.count()

    def names(self) -> Iterator[str]:
        """Every document, in the order in which they came; at last those of which nothing can be read any more."""
        yield from self._index.names()
        yield from (document for document in self._short if self._index.known(document) is None)

    def damaged(self) -> list[tuple[str, str]]:
        """Documents that could not be read in full from the store, and why."""
        return self._index.damaged()

    def known(self, document: str) -> Known | None:
        """What there is of a document, if anything."""
        return self._index.known(document)

    def last_entry(self, document: str) -> Entry | None:
        """The last entry that there is of a document, if any. Raises `ArchiveDamaged`."""
        known = self._index.known(document)
        return last_entry(self._segments, self._index, document, known) if known else None

    def log(self, document: str, at: int | None = None) -> ArchiveLog | None:
        """The document's log, up to the last entry before the first one that was made after `at` (ms since 1970).

        None when there was no such document then. Raises `NotReached` when that cannot be told any more, `ArchiveDamaged`.
        """
        if document in self._short:
            raise self._short[document]
        known = self._index.known(document)
        return log_at(self._segments, self._index, document, known, at) if known else None

    def check(self) -> list[ArchiveDamaged]:
        """Read every byte that was committed, and make the index anew: what is not as it was written.

        Raises `NoTemporaryFolder`.
        """
        skipped: Skipped = []
        with ExitStack() as opened:
            folder = opened.enter_context(_temporary_folder())
            fresh = opened.enter_context(closing(self._caught_up(folder / INDEX, skipped)))
            end, read = self.progress.end, fresh.progress().end
            if not skipped and read != end:
                file = self._segments.path(read.segment)
                skipped.append((ArchiveDamaged(file, f"cannot be read behind byte {read.offset}"), ""))
            if not skipped and not fresh.agrees_with(self._index):
                reason = "does not agree with the segments; delete it, and it is made anew"
                skipped.append((ArchiveDamaged(self.folder / INDEX, reason), ""))
        return [damage for damage, _ in skipped]

    def add_entries(self, document: str, lineage: str, entries: Sequence[Entry]) -> None:
        """Write entries that follow what there is of the document, or the `floor` of a snapshot just added."""
        latest = max(entry.time for entry in entries)
        record = frames.Entries(document, lineage, entries[0].seq, entries[-1].seq, latest)
        self._add(record, frames.packed(entries))

    def add_snapshot(self, document: str, lineage: str, floor: int, snapshot: Snapshot) -> None:
        """Write a snapshot of a log that begins behind `floor`. What is to follow it there continues `floor`."""
        size = len(snapshot.state)
        parts, taken = max(1, -(-size // PART_BYTES)), _milliseconds()
        for part in range(parts):
            record = Part(document, lineage, floor, snapshot.seq, part, parts, size, taken)
            self._add(record, snapshot.state[part * PART_BYTES : (part + 1) * PART_BYTES])

    def add_damage(self, document: str, reason: str) -> None:
        """Note that the document cannot be read in full; with an empty `reason`, that it can again."""
        self._add(Damage(document, reason), b"")

    def commit(self, feed: str, cursor: int) -> None:
        """Return when all that was written is on disk, and everything up to `cursor` of the store's feed with it."""
        record = Commit(feed, cursor, _milliseconds())
        place = self._segments.append(frames.encode(record))
        self._index.note(record, place, self._segments.sync(), 0)
        self._written = 0

    def _add(self, record: Record, body: bytes) -> None:
        frame = frames.encode(record, body)
        place = self._segments.append(frame)
        self._index.note(record, place, place, len(frame))
        self._written += len(frame)

    def _current_index(self, folder: Path, write: bool, opened: ExitStack) -> Index:
        found: ArchiveDamaged | None = None
        try:
            return self._caught_up(folder / INDEX, None)
        except (sqlite3.OperationalError, OSError):
            if write:
                raise
        except ArchiveDamaged as damage:
            if write:
                raise
            found = damage
        # Where nothing can be written to, or another reader does so just now, a backup can be read all the same. And an index
        # that lacks something is none for the next run to go on from.
        elsewhere = opened.enter_context(_temporary_folder())
        index = self._caught_up(elsewhere / INDEX, self._skipped)
        if found is not None and not self._skipped:
            # The end is missing: what is there looks whole, and is less than there was.
            index.close()
            raise found
        self._short = {document: damage for damage, document in self._skipped if document}
        return index

    def _caught_up(self, path: Path, skipped: Skipped | None) -> Index:
        """The index, made when missing, having read on to the last commit. `skipped` is as for `Segments.scan`."""
        index = Index(path)
        try:
            for place, end, record in self._segments.scan(index.progress().end, skipped):
                try:
                    index.note(record, place, end, end.offset - place.offset)
                except ValueError as error:
                    damage = ArchiveDamaged(self._segments.path(place.segment), f"{error}, at byte {place.offset}")
                    if skipped is None:
                        raise damage from None
                    assert not isinstance(record, Commit)
                    if all(document != record.document for _, document in skipped):
                        skipped.append((damage, record.document))
            index.forget_uncommitted()
        except BaseException:
            index.close()
            raise
        return index


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="ebbtide-")
    except FileNotFoundError:
        raise NoTemporaryFolder from None
    with folder as path:
        yield Path(path)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
