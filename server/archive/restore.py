"""From a backup into a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from server.archive.archive import Archive
from server.archive.errors import ArchiveDamaged, ArchiveUnfinished, NothingThen, NotReached, UnknownDocument
from server.archive.logs import DocumentLog
from server.archive.report import Report
from server.archive.strangers import refuse_strangers
from server.archive.transfer import Transfer
from sync.rooms.ports import Store

ADVICE = "restore into another store, or with --beside into this one, whose own documents are left as they are"


async def restore(
    archive: Archive, store: Store, report: Report, *, at: int | None, documents: Sequence[str], beside: bool
) -> None:
    """Put the archive's documents into the store, as they were at `at` (ms since 1970; None: at the last backup).

    All of them, or `documents` alone. Unless `beside` others, the store must be empty or hold beginnings of what is restored.
    A document that is not to be had as it was then is reported. Run again after a kill, it finishes.

    Raises `TargetNotEmpty` and `UnknownDocument` before anything was written, `StoreUnavailable`, and `ArchiveDamaged`.
    """
    refuse_unknown(archive, documents)
    if not beside:

        async def log_of(document: str) -> DocumentLog | None:
            try:
                return archive.log(document, at) if document in documents or not documents else None
            except NotReached:
                return None

        await refuse_strangers(store, log_of, ADVICE)
    if archive.unfinished:
        report.trouble("the backup", ArchiveUnfinished.code, ArchiveUnfinished().reason)
    for damage in archive.skipped:
        report.trouble("the backup", damage.code, damage.reason)
    report.total = len(set(documents)) or archive.count()[0]
    transfer = Transfer(store, report)
    for document in _chosen(archive, documents):
        try:
            log = archive.log(document, at)
        except (NotReached, ArchiveDamaged) as error:
            report.trouble(document, error.code, error.reason)
            report.advance(left=1)
            continue
        if log is None:
            report.advance(left=1)
        else:
            await transfer.put(log)
    await transfer.finish()


def refuse_unknown(archive: Archive, documents: Iterable[str]) -> None:
    """Raises `UnknownDocument` for the first that the archive never had."""
    for document in documents:
        if archive.known(document) is None:
            raise UnknownDocument(document)


def refuse_nothing(archive: Archive, at: int, documents: Sequence[str]) -> None:
    """Raises `NothingThen` where there are documents to restore, and none was there yet at `at` (ms since 1970).

    One of which that cannot be told is no reason to refuse: it is reported.
    """
    chosen = False
    for document in _chosen(archive, documents):
        chosen = True
        try:
            if archive.log(document, at) is not None:
                return
        except (NotReached, ArchiveDamaged):
            return
    if chosen:
        raise NothingThen


def _chosen(archive: Archive, documents: Iterable[str]) -> Iterator[str]:
    return iter(dict.fromkeys(documents)) if documents else archive.names()
