"""Making a backup: one more cursor on a store's changes feed."""

from __future__ import annotations

import hashlib
from contextlib import closing

from server.archive.archive import Archive
from server.archive.errors import ArchiveUnusable, CompactedMeanwhile, Mismatch
from server.archive.index import Known
from server.archive.logs import Snapshot, StoreLog
from server.archive.report import Report
from server.archive.worklist import list_changes
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Store

COMMIT_BYTES = 8 << 20
"""After so many bytes what was written is made durable, and a run that is killed goes on from there."""

WORTH = 4
"""A new snapshot is taken when the entries since the last one, compressed, have at least this fraction of its size: so the
snapshots of a backup take about as much as its entries at most, and whoever restores reads about as many entries as one
snapshot has bytes."""


async def back_up(store: Store, archive: Archive, report: Report) -> None:
    """Bring the archive up to what the store had when this began: every document, up to its head then or beyond.

    Goes on from where the archive is, also after a kill. A document that cannot be read, or is none that the archive could go
    on with, is reported, noted in the archive and tried again by the next run.

    Raises `ArchiveUnusable` when the archive follows another store, `StoreUnavailable`, `ArchiveDamaged`, and `OSError`.
    """
    start = archive.progress
    feed = await _feed_of(store, archive)
    damaged = dict(archive.damaged())
    with closing(await list_changes(store, start.cursor)) as work:
        for document in damaged:
            work.add(document, 0)
        report.total = len(work)
        for document, head in work:
            known = archive.known(document)
            if known is None or known.head < head or document in damaged:
                await _Visit(store, archive, report, document, feed).make(known, document in damaged)
            report.advance(documents=1)
            if archive.uncommitted >= COMMIT_BYTES:
                archive.commit(feed, start.cursor)
        archive.commit(feed, work.cursor)


async def _feed_of(store: Store, archive: Archive) -> str:
    """A digest of the name of the store's feed, by which an archive knows it: nodes believe each other's news for the name.

    Raises `ArchiveUnusable` when it is not the one that the archive follows.
    """
    start = archive.progress
    page = await store.changes(max(0, start.cursor - 1), 1)
    feed = hashlib.sha256(page.feed.encode()).hexdigest()
    if start.time and start.feed != feed:
        raise ArchiveUnusable(
            archive.folder, "is a backup of another store, or of this one before it was restored; name another folder"
        )
    if start.cursor and not page.changes:
        raise ArchiveUnusable(
            archive.folder, "has more than the store, which must have been put back to an older state; name another folder"
        )
    return feed


class _Visit:
    """One document is brought up to date."""

    def __init__(self, store: Store, archive: Archive, report: Report, document: str, feed: str) -> None:
        self._store = store
        self._archive = archive
        self._report = report
        self._document = document
        self._feed = feed

    async def make(self, known: Known | None, was_damaged: bool) -> None:
        """Write what the archive lacks of the document."""
        damage: StoreCorrupted | Mismatch | None = None
        while True:
            try:
                damage = await self._make(known, was_damaged)
            except CompactedMeanwhile:
                known = self._archive.known(self._document)
                continue
            except (StoreCorrupted, Mismatch) as error:
                damage = error
            break
        if damage is not None:
            self._report.trouble(self._document, damage.code, damage.reason)
            self._archive.add_damage(self._document, damage.reason)
        elif was_damaged:
            self._archive.add_damage(self._document, "")

    async def _make(self, known: Known | None, was_damaged: bool) -> StoreCorrupted | None:
        log = await StoreLog.open(self._store, self._document)
        if log is None:
            raise Mismatch(self._document, "the store has it no more")
        if known is not None:
            await self._refuse_another(known, log)
        hole = await self._write(known, log)
        if hole is None and was_damaged:
            try:
                async for _ in log.pages(log.floor):
                    pass
            except StoreCorrupted as error:
                # What the archive has was read beyond it; it is there still.
                return error
        return hole

    async def _refuse_another(self, known: Known, log: StoreLog) -> None:
        """Raises `Mismatch` when the log is not the one that the archive has the beginning of."""
        if known.lineage != log.lineage:
            raise Mismatch(self._document, "it was made anew since the last backup; name another folder")
        ours = self._archive.last_entry(self._document)
        if log.head < known.head:
            raise Mismatch(self._document, "it has fewer entries than at the last backup; name another folder")
        if ours is None or known.head <= log.floor:
            return
        try:
            theirs = (await anext(log.pages(known.head - 1)))[0]
        except StoreCorrupted:
            # It is not there to be compared. What is missing is found when the log is read on.
            return
        if theirs != ours:
            raise Mismatch(self._document, f"entry {ours.seq} is another than at the last backup; name another folder")

    async def _write(self, known: Known | None, log: StoreLog) -> StoreCorrupted | None:
        """Write it; what was found missing of the log where a snapshot makes up for it."""
        kept, hole = await log.snapshot(), None
        after = known.head if known else 0
        if log.floor > after or (log.floor and known is None):
            assert kept is not None
            self._keep(log, log.floor, kept)
            after = log.floor
        try:
            await self._write_entries(log, after)
        except StoreCorrupted as error:
            written = self._archive.known(self._document)
            if kept is None or (written is not None and written.head >= kept.seq):
                raise
            hole = error
            self._keep(log, kept.seq, kept)
            await self._write_entries(log, kept.seq)
        written = self._archive.known(self._document)
        assert written is not None
        if kept is not None and kept.seq > written.snapshot and written.behind * WORTH >= len(kept.state):
            self._keep(log, log.floor, kept)
        return hole

    async def _write_entries(self, log: StoreLog, after: int) -> None:
        async for page in log.pages(after):
            self._archive.add_entries(self._document, log.lineage, page)
            self._report.advance(entries=len(page), size=sum(len(entry.update) for entry in page))
            if self._archive.uncommitted >= COMMIT_BYTES:
                self._archive.commit(self._feed, self._archive.progress.cursor)

    def _keep(self, log: StoreLog, floor: int, kept: Snapshot) -> None:
        self._archive.add_snapshot(self._document, log.lineage, floor, kept)
        self._report.advance(size=len(kept.state))
