"""A document's log as a backup holds it: the newest stretch, or the one that holds a moment in the past."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from server.archive.errors import ArchiveDamaged, NotReached
from server.archive.frames import Entries, FrameError, decompressed, unpack_entries
from server.archive.index import Index, Kept, Known, Piece
from server.archive.logs import Snapshot
from server.archive.segments import Place, Segments
from sync.rooms.ports import Entry


class ArchiveLog:
    """A `server.archive.logs.DocumentLog`."""

    def __init__(
        self, segments: Segments, index: Index, document: str, known: Known, floor: int, head: int, kept: Kept | None
    ) -> None:
        self.document = document
        self.lineage = known.lineage
        self.floor = floor
        self.head = head
        self._segments = segments
        self._index = index
        self._key = known.key
        self._kept = kept

    async def pages(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        """`DocumentLog.pages`."""
        for piece in self._index.pieces(self._key, after, self.head):
            entries = read_piece(self._segments, self.document, piece)
            yield entries[max(0, after + 1 - piece.first) : self.head + 1 - piece.first]

    async def snapshot(self) -> Snapshot | None:
        """`DocumentLog.snapshot`."""
        if self._kept is None:
            return None
        places = self._index.parts(self._key, self._kept.seq)
        state = b"".join([_body(self._segments, place) for place in places])
        if len(state) != self._kept.size:
            raise ArchiveDamaged(self._segments.path(places[0].segment), "a snapshot has not the size that it should have")
        return Snapshot(self._kept.seq, state)


def log_at(segments: Segments, index: Index, document: str, known: Known, at: int | None) -> ArchiveLog | None:
    """See `Archive.log`. A backup has several stretches of a log when the store compacted it between two runs."""
    beginnings = index.beginnings(known.key)
    for number, floor in enumerate(reversed(beginnings)):
        end = index.end(known.key, floor)
        head, later = (end, False) if at is None else _head_at(segments, index, document, known, floor, end, at)
        kept = next(iter(index.snapshots(known.key, floor, head)), None)
        if floor and (kept is None or not _is_before(kept, floor, head, at)):
            continue
        if number and not later:
            # Everything of this stretch is older, and what came between it and the next one is not there.
            break
        return ArchiveLog(segments, index, document, known, floor, head, kept) if head else None
    raise NotReached(document)


def last_entry(segments: Segments, index: Index, document: str, known: Known) -> Entry | None:
    """The entry at the head, or None when a snapshot stands for it."""
    for piece in index.pieces(known.key, known.head - 1, known.head):
        return read_piece(segments, document, piece)[-1]
    return None


def read_piece(segments: Segments, document: str, piece: Piece) -> list[Entry]:
    """Its entries. Raises `ArchiveDamaged`."""
    record, body = segments.read(piece.place)
    try:
        if not isinstance(record, Entries) or (record.document, record.first, record.last) != (document, *piece[:2]):
            raise FrameError("another record than the index says")
        return unpack_entries(record, body)
    except FrameError as error:
        raise ArchiveDamaged(segments.path(piece.place.segment), f"{error}, at byte {piece.place.offset}") from None


def _head_at(segments: Segments, index: Index, document: str, known: Known, floor: int, end: int, at: int) -> tuple[int, bool]:
    """The last number before the first entry of the stretch that was made after `at`, and whether there is such an entry."""
    for piece in index.pieces(known.key, floor, end):
        if piece.latest > at:
            first = next(entry.seq for entry in read_piece(segments, document, piece) if entry.time > at)
            return first - 1, True
    return end, False


def _is_before(kept: Kept, floor: int, head: int, at: int | None) -> bool:
    """Whether all that the snapshot stands for was made before `at`: an entry behind it was, or itself was taken then."""
    return at is None or head > floor or kept.taken <= at


def _body(segments: Segments, place: Place) -> bytes:
    _, body = segments.read(place)
    try:
        return decompressed(body) if body else b""
    except FrameError as error:
        raise ArchiveDamaged(segments.path(place.segment), f"{error}, at byte {place.offset}") from None
