"""Whether what a store or a backup holds is what it should be, document by document."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from crdt.document import Document
from crdt.errors import CrdtError
from crdt.form import same_document
from crdt.updates import inspect
from server.archive.archive import Archive
from server.archive.errors import ArchiveError, ArchiveUnfinished, CompactedMeanwhile
from server.archive.logs import DocumentLog, Snapshot, StoreLog
from server.archive.ports import LogListing
from server.archive.report import Report
from server.archive.worklist import Worklist, list_changes
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Entry, Store

LOOKS = 5
"""How often a document is looked at that changes under the look."""


class Finding(NamedTuple):
    """What is wrong with a document. `code` is stable:

    `entries-missing`: the log has a hole. `entry-unusable`: an entry is no update, or cannot be applied behind those before it.
    `snapshot-unreadable`: the snapshot is no document. `snapshot-differs`: it is not what the log gives up to its number.
    `heads-differ`: the changes feed and the log disagree about where it ends, or whether it is there.
    """

    code: str
    reason: str


async def verify_store(store: Store, listing: LogListing, report: Report) -> None:
    """Check every document that the store's feed or its logs have, and report those with which something is wrong.

    Raises `StoreUnavailable`, and `StoreCorrupted` for what concerns no single document.
    """
    with closing(await list_changes(store, 0)) as work:
        ahead = await _ahead_of_feed(listing, work)
        report.total = len(work)
        for document, head in work:
            if finding := await _look(store, report, document, head):
                report.trouble(document, *finding)
                ahead.pop(document, None)
            report.advance(documents=1)
        if not ahead:
            return
        # What was appended since the feed was listed is in it now.
        with closing(await list_changes(store, work.cursor)) as later:
            for document, last in ahead.items():
                fed = later.head(document) or work.head(document)
                if fed is None or fed < last:
                    report.trouble(document or "a document without a name", *_unfed(last, fed))


async def _ahead_of_feed(listing: LogListing, work: Worklist) -> dict[str, int]:
    """The last numbers of those documents whose logs have more than the feed: damaged ones, and what is new."""
    ahead: dict[str, int] = {}
    async for document, last in listing.documents_in_log():
        fed = work.head(document)
        if fed is None or fed < last:
            ahead[document] = max(last, ahead.get(document, 0))
    return ahead


def _unfed(last: int, fed: int | None) -> Finding:
    known = "does not have it" if fed is None else f"ends at {fed}"
    return Finding("heads-differ", f"there are entries up to {last} of it, and the changes feed {known}")


async def _look(store: Store, report: Report, document: str, head: int) -> Finding | None:
    for look in range(1, LOOKS + 1):
        try:
            return await _check_stored(store, report, document, head)
        except CompactedMeanwhile as error:
            if look == LOOKS:
                return Finding(error.code, error.reason)
        except StoreCorrupted as error:
            return Finding(error.code, error.reason)
    raise AssertionError("unreachable")


async def verify_archive(archive: Archive, report: Report) -> None:
    """Check every byte and every document of a backup, and report what is wrong."""
    report.total = archive.count()[0]
    if archive.unfinished:
        report.trouble("the backup", ArchiveUnfinished.code, ArchiveUnfinished().reason)
    for damage in archive.check():
        report.trouble("the backup", damage.code, damage.reason)
    for document, reason in archive.damaged():
        report.trouble(document, "damaged-in-store", f"when the backup was made: {reason}")
    for document in archive.names():
        try:
            log = archive.log(document)
            finding = await check_log(log, report) if log is not None else None
        except ArchiveError as error:
            finding = Finding(error.code, error.reason)
        if finding is not None:
            report.trouble(document, *finding)
        report.advance(documents=1)


async def _check_stored(store: Store, report: Report, document: str, head: int) -> Finding | None:
    log = await StoreLog.open(store, document)
    if log is None:
        return Finding("heads-differ", f"the feed has it up to entry {head}, and there is no such document")
    return await check_log(log, report) or await check_heads(store, log, head)


async def check_heads(store: Store, log: StoreLog, fed: int) -> Finding | None:
    """Whether the feed, which had the log up to `fed` before it was opened, and `heads` agree with it."""
    head = (await store.heads([log.document])).get(log.document, 0)
    if fed <= log.head <= head:
        return None
    return Finding("heads-differ", f"the feed had it up to entry {fed}, its log ends at {log.head}, and its head is {head}")


async def check_log(log: DocumentLog, report: Report) -> Finding | None:
    """Whether the log has no hole, its entries decode and apply, and its snapshot is what they give.

    Where the log was compacted, nothing tells what the snapshot should be; it must decode, and what follows it apply.
    Raises `StoreCorrupted`, `ArchiveDamaged` and `CompactedMeanwhile`.
    """
    kept = await log.snapshot()
    document = Document()
    if kept is not None and log.floor:
        try:
            document = Document.load([kept.state])
        except CrdtError as error:
            return Finding("snapshot-unreadable", f"the snapshot at {kept.seq} cannot be read: {error.reason}")
    known, seq = kept.seq if kept is not None and log.floor else 0, log.floor
    async for page in log.pages(log.floor):
        if [entry.seq for entry in page] != list(range(seq + 1, seq + 1 + len(page))):
            return Finding("entries-missing", f"entry {seq + 1} is not there")
        # The document is to be looked at where the snapshot is.
        at_snapshot = max(0, kept.seq - seq) if kept is not None and not log.floor else len(page)
        for run in (page[:at_snapshot], page[at_snapshot:]):
            if finding := _check_entries(document, run, known):
                return finding
            at_kept = kept is not None and not log.floor and run and run[-1].seq == kept.seq
            if kept is not None and at_kept and (finding := _check_snapshot(kept, document)):
                return finding
        seq = page[-1].seq
        report.advance(entries=len(page), size=sum(len(entry.update) for entry in page))
    return None if seq == log.head else Finding("entries-missing", f"entry {seq + 1} is not there")


def _check_entries(document: Document, entries: Sequence[Entry], known: int) -> Finding | None:
    """Apply those above `known`; the document has the others, which must decode."""
    for entry in entries:
        if entry.seq <= known:
            try:
                inspect(entry.update)
            except CrdtError as error:
                return _unusable(entry, error)
    new = [entry for entry in entries if entry.seq > known]
    for entry, verdict in zip(new, document.apply_all([entry.update for entry in new]), strict=True):
        if isinstance(verdict, CrdtError):
            return _unusable(entry, verdict)
    return None


def _unusable(entry: Entry, error: CrdtError) -> Finding:
    return Finding("entry-unusable", f"entry {entry.seq} cannot be used ({error.code}): {error.reason}")


def _check_snapshot(kept: Snapshot, document: Document) -> Finding | None:
    if kept.state == document.encode():
        return None
    try:
        same = same_document(Document.load([kept.state]).encode(), document.encode())
    except CrdtError as error:
        return Finding("snapshot-unreadable", f"the snapshot at {kept.seq} cannot be read: {error.reason}")
    return None if same else Finding("snapshot-differs", f"the snapshot at {kept.seq} is not what the log gives")
