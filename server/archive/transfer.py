"""Putting logs into a store as they are elsewhere: what restoring a backup and moving to another store have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import NamedTuple

from server.archive.errors import ArchiveDamaged, CompactedMeanwhile, Mismatch
from server.archive.logs import DocumentLog
from server.archive.report import Report
from sync.rooms.errors import StoreCorrupted, UpdateTooLarge
from sync.rooms.ports import Adoption, Conflict, Entry, Store

BATCH_BYTES = 4 << 20
BATCH_DOCUMENTS = 250
"""Small documents go many at a time: a batch is one transaction."""

_OF_ONE_DOCUMENT = (ArchiveDamaged, CompactedMeanwhile, Mismatch, StoreCorrupted, UpdateTooLarge)


class _Small(NamedTuple):
    """A document that is all in one page, with its only adoption."""

    log: DocumentLog
    entries: Sequence[Entry]


class Transfer:
    """Puts documents into `target`. What is there already as a beginning of the same log is gone on from.

    So a transfer that was killed is made again from the start and finishes. A document of which the target has something else
    is reported and left as it is, and so is one that cannot be read or held. The report counts as done the documents that the
    target has then as they are elsewhere.
    """

    def __init__(self, target: Store, report: Report) -> None:
        self._target = target
        self._report = report
        self._batch: list[_Small] = []
        self._batch_bytes = 0

    async def put(self, log: DocumentLog) -> None:
        """Put one document; it is durable after `finish` at the latest.

        Raises `StoreUnavailable`; what is wrong with this document alone is reported.
        """
        await self._count_document(log, self._put(log))
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_DOCUMENTS:
            await self.finish()

    async def finish(self) -> None:
        """Return when all that was put is durable. Raises as `put` does."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if not batch:
            return
        try:
            answers = await self._target.adopt([_adoption(small.log, 0, small.entries) for small in batch])
        except UpdateTooLarge:
            # One of them is at fault, and is found by putting each on its own.
            for small in batch:
                await self._alone(small)
            return
        for small, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Conflict):
                await self._alone(small)
            else:
                self._count(small.entries)
                self._report.advance(documents=1)

    async def _alone(self, small: _Small) -> None:
        await self._count_document(small.log, self._go_on(small.log, 0))

    async def _count_document(self, log: DocumentLog, putting: Awaitable[bool]) -> None:
        """Count the document as done when `putting` says that it is there."""
        try:
            there = await putting
        except _OF_ONE_DOCUMENT as error:
            self._report.trouble(log.document, error.code, error.reason)
            self._report.advance(left=1)
        else:
            if there:
                self._report.advance(documents=1)

    async def _put(self, log: DocumentLog) -> bool:
        """Put it there; False when it goes with the next batch."""
        kept = await log.snapshot()
        if log.floor == 0 and kept is None:
            pages = log.pages(0)
            first = await anext(pages)
            if first[-1].seq == log.head:
                self._batch.append(_Small(log, first))
                self._batch_bytes += sum(len(entry.update) for entry in first)
                return False
        if log.floor:
            answer = (await self._target.adopt([_adoption(log, log.floor, [])]))[0]
            start = await self._matching(log, answer) if isinstance(answer, Conflict) else log.floor
        else:
            start = 0
        await self._go_on(log, start)
        if kept is not None:
            await self._target.snapshot(log.document, kept.seq, kept.state)
            self._report.advance(size=len(kept.state))
        return True

    async def _go_on(self, log: DocumentLog, after: int) -> bool:
        """Put the entries above `after`, or above what turns out to be there. True: all are there then."""
        while after < log.head:
            # At most once more: a conflict says where the target is.
            async for page in log.pages(after):
                (answer,) = await self._target.adopt([_adoption(log, after, page)])
                if isinstance(answer, Conflict):
                    after = await self._matching(log, answer)
                    break
                after = answer.head
                self._count(page)
        return True

    async def _matching(self, log: DocumentLog, there: Conflict) -> int:
        """The number up to which the target has the same log.

        Raises `Mismatch` when what it has is no beginning of it: logs that have an entry in common are the same up to it.
        """
        name = log.document
        if there.lineage != log.lineage:
            raise Mismatch(name, "the store has another document of that name; it was left as it is")
        if not log.floor <= there.head <= log.head:
            raise Mismatch(name, f"the store has it up to entry {there.head}, here it ends at {log.head}; it was left as it is")
        if there.head > log.floor:
            theirs = await self._target.read(name, there.head - 1, 1)
            ours = await _first(log.pages(there.head - 1))
            if list(theirs) != [ours]:
                raise Mismatch(name, f"the store has another entry {there.head} of it; it was left as it is")
        return there.head

    def _count(self, entries: Sequence[Entry]) -> None:
        self._report.advance(entries=len(entries), size=sum(len(entry.update) for entry in entries))


def _adoption(log: DocumentLog, after: int, entries: Sequence[Entry]) -> Adoption:
    return Adoption(log.document, after, entries, log.lineage)


async def _first(pages: AsyncIterator[Sequence[Entry]]) -> Entry:
    return (await anext(pages))[0]
