"""From a backup into a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from server.archive.archive import Archive
from server.archive.errors import ArchiveDamaged, ArchiveUnfinished, NotReached, TargetNotEmpty, UnknownDocument
from server.archive.report import Report
from server.archive.transfer import Transfer
from server.archive.worklist import CHANGES_PAGE
from sync.rooms.ports import Store


async def restore(
    archive: Archive, store: Store, report: Report, *, at: int | None, documents: Sequence[str], beside: bool
) -> None:
    """Put the archive's documents into the store, as they were at `at` (ms since 1970; None: at the last backup).

    All of them, or `documents` alone. Unless `beside` others, or only some documents are asked for, the store must be empty or
    hold beginnings of what is restored. A document that is not to be had as it was then is reported. Run again after a
    kill, it finishes.

    Raises `TargetNotEmpty` and `UnknownDocument` before anything was written, `StoreUnavailable`, and `ArchiveDamaged`.
    """
    for document in documents:
        if archive.known(document) is None:
            raise UnknownDocument(document)
    if not documents and not beside:
        await refuse_strangers(store, archive)
    if archive.unfinished:
        report.trouble("the backup", ArchiveUnfinished.code, ArchiveUnfinished().reason)
    for damage in archive.skipped:
        report.trouble("the backup", damage.code, damage.reason)
    report.total = len(documents) or archive.count()[0]
    transfer = Transfer(store, report)
    for document in _chosen(archive, documents):
        try:
            log = archive.log(document, at)
        except (NotReached, ArchiveDamaged) as error:
            report.trouble(document, error.code, error.reason)
            report.advance(documents=1)
            continue
        if log is not None:
            await transfer.put(log)
    await transfer.finish()


async def refuse_strangers(store: Store, archive: Archive) -> None:
    """Raises `TargetNotEmpty` when the store has a document, or more of one, than the archive."""
    cursor, more = 0, True
    while more:
        page = await store.changes(cursor, CHANGES_PAGE)
        for document, head in page.changes:
            known = archive.known(document)
            if known is None or known.head < head:
                raise TargetNotEmpty(document, "restore into another, or beside what is there with --beside")
        cursor, more = page.cursor, page.more


def _chosen(archive: Archive, documents: Iterable[str]) -> Iterator[str]:
    return iter(dict.fromkeys(documents)) if documents else archive.names()
