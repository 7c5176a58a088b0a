"""A document's log, wherever it is read from: a store or a backup."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from server.archive.errors import CompactedMeanwhile
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Entry, Store

PAGE_BYTES = 1 << 20
"""About how much of a log is in memory at a time; one entry may be larger."""

_PAGE_ENTRIES = 1000
_FIRST_PAGE = 16


class Snapshot(NamedTuple):
    """The encoded document at number `seq`."""

    seq: int
    state: bytes


class DocumentLog(Protocol):
    """One document's log, as far as its source has it: entries `floor + 1` to `head`, and a snapshot at or above `floor`.

    With a `floor` of 0 the log is whole, and there may be no snapshot. What it gives does not change while it is used.
    """

    @property
    def document(self) -> str: ...

    @property
    def lineage(self) -> str: ...

    @property
    def floor(self) -> int: ...

    @property
    def head(self) -> int: ...

    def pages(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        """The entries above `after`, which is not below `floor`, up to `head`: in order, without a hole, no page empty.

        Raises `StoreCorrupted` or `ArchiveDamaged` where they cannot be read, and `CompactedMeanwhile`.
        """
        ...

    async def snapshot(self) -> Snapshot | None:
        """The newest snapshot. Raises `ArchiveDamaged`."""
        ...


class StoreLog:
    """A document in a store, at the moment of `open`. What is appended later is not seen."""

    def __init__(self, store: Store, document: str, lineage: str, floor: int, head: int, kept: Snapshot | None) -> None:
        self.document = document
        self.lineage = lineage
        self.floor = floor
        self.head = head
        self._store = store
        self._kept = kept
        self._tail: Sequence[Entry] = ()

    @classmethod
    async def open(cls, store: Store, document: str) -> StoreLog | None:
        """None when there is no such document. Raises `StoreCorrupted` when it cannot be loaded, `StoreUnavailable`."""
        stored = await store.load(document)
        if stored.lineage is None:
            return None
        floor, kept = 0, None
        if stored.snapshot is not None:
            kept = Snapshot(stored.snapshot_seq, stored.snapshot)
            try:
                first = await store.read(document, 0, 1)
                floor = min(first[0].seq - 1 if first else stored.head, kept.seq)
            except StoreCorrupted:
                # Something before the snapshot is missing: whoever reads the log from its beginning will find it.
                floor = 0
        log = cls(store, document, stored.lineage, floor, stored.head, kept)
        log._tail = stored.entries
        return log

    async def pages(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        """`DocumentLog.pages`."""
        behind = self._kept.seq if self._kept else 0
        async for page in read_pages(self._store, self.document, after, min(behind, self.head)):
            yield page
            after = page[-1].seq
        # What follows the snapshot came with it.
        start = max(after, behind)
        for page in split(self._tail[start - behind :]):
            yield page

    async def snapshot(self) -> Snapshot | None:
        """`DocumentLog.snapshot`."""
        return self._kept


async def read_pages(store: Store, document: str, after: int, upto: int) -> AsyncIterator[Sequence[Entry]]:
    """The entries above `after` up to `upto`, read from a store in pages of about `PAGE_BYTES`.

    Raises `CompactedMeanwhile`.
    """
    limit = _FIRST_PAGE
    while after < upto:
        page = await store.read(document, after, min(limit, upto - after))
        if not page or page[0].seq != after + 1:
            raise CompactedMeanwhile(document)
        yield page
        after = page[-1].seq
        # How large entries are is not known before they are read; those of one document are much alike.
        limit = max(1, min(_PAGE_ENTRIES, limit * 4, PAGE_BYTES // max(len(entry.update) + 1 for entry in page)))


def split(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """The entries in pages of about `PAGE_BYTES`."""
    pages: list[Sequence[Entry]] = []
    start = size = 0
    for index, entry in enumerate(entries):
        if size and (size + len(entry.update) > PAGE_BYTES or index - start == _PAGE_ENTRIES):
            pages.append(entries[start:index])
            start, size = index, 0
        size += len(entry.update) + 1
    if start < len(entries):
        pages.append(entries[start:])
    return pages
