"""One document's log as its room stands to it: how far it was read, what is being appended, what others appended."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from crdt.document import Document
from crdt.errors import CrdtError
from sync.rooms.errors import DocumentUnreadable, LineageDiffers, RoomError, StoreUnavailable
from sync.rooms.journal import Journal
from sync.rooms.limits import RoomLimits
from sync.rooms.pending import PendingBytes
from sync.rooms.ports import Append, Conflict, Draft, NewEntries, Store

if TYPE_CHECKING:
    from sync.rooms.peer import Peer

log = logging.getLogger(__name__)

READ_PAGE = 1000
"""Entries read from the store at a time."""

KEPT_BYTES = 16 << 10
"""News of a document that are kept while the store is asked: what a few people type in a second. What goes beyond is read."""

KEPT_OVERHEAD = 200
"""Bytes that news take beside their entries, about."""


class Snapshot(NamedTuple):
    """The encoded document as the log gives it up to number `seq`."""

    seq: int
    state: bytes


class LogCursor:
    """A place on a document's log, and the document there with what is not durable yet on top.

    `journal.head` is the place. While an append is under way nothing is read, and while something is read nothing is
    appended: what the store holds behind the head may be ours or not, and only one question is open at a time.
    """

    __slots__ = (
        "_acknowledge",
        "_appending",
        "_behind",
        "_failed",
        "_follow",
        "_kept",
        "_kept_bytes",
        "_limits",
        "_reading",
        "_said",
        "_since_snapshot",
        "_since_snapshot_bytes",
        "_snapshot",
        "_store",
        "_wake",
        "created",
        "document",
        "error",
        "journal",
        "lineage",
        "name",
    )

    def __init__(
        self,
        name: str,
        store: Store,
        limits: RoomLimits,
        pending: PendingBytes,
        *,
        wake: Callable[[LogCursor], None],
        follow: Callable[[Sequence[bytes]], None],
        acknowledge: Callable[[Sequence[tuple[Peer, bytes]]], None],
        failed: Callable[[RoomError], None],
    ) -> None:
        """`pending` counts what is not durable. `wake` sees to it that `take` is called.

        `follow` applies what others appended and raises `RoomError` when that cannot be; `acknowledge` is given the frames
        that are due; `failed` is told once why nothing can be done with the document.
        """
        self.name = name
        self._store = store
        self._limits = limits
        self._wake = wake
        self._follow = follow
        self._acknowledge = acknowledge
        self._failed = failed
        self.error: RoomError | None = None
        """Why the cursor is of no more use."""
        self.document: Document | None = None
        self.journal = Journal(pending)
        self.lineage = ""
        self.created = False
        """Whether the document is known to be in the store."""
        self._reading: asyncio.Task[None] | None = None
        # What came while the store was asked, and up to which number others were said to have appended then.
        self._kept: list[NewEntries] = []
        self._kept_bytes = 0
        self._said: float = 0
        self._appending = False
        # The number up to which others are known to have appended, while an append of ours is under way.
        self._behind: float = 0
        self._snapshot: Snapshot | None = None
        self._since_snapshot = 0
        self._since_snapshot_bytes = 0

    @property
    def reading(self) -> bool:
        """Whether what others appended is being read."""
        return self._reading is not None

    async def load(self) -> bool:
        """Bring the document into memory; says whether others appended since it was there last. Raises `RoomError`."""
        stored = await self._store.load(self.name)
        if self.created and stored.lineage in (None, self.lineage) and stored.head < self.journal.head:
            raise StoreUnavailable("the store gave an older state than before; it is asked again")
        if self.created and stored.lineage != self.lineage:
            raise LineageDiffers(stored.lineage or "")
        try:
            document = Document.load([entry.update for entry in stored.entries], stored.snapshot)
        except CrdtError as error:
            log.error("document cannot be loaded", extra={"document": self.name, "code": error.code})
            raise DocumentUnreadable("what is stored of the document cannot be read; ask the operator") from error
        self.document = document
        self.created = stored.lineage is not None
        self.lineage = stored.lineage or secrets.token_hex(8)
        moved, self.journal.head = stored.head != self.journal.head, stored.head
        self._since_snapshot = len(stored.entries)
        self._since_snapshot_bytes = sum(len(entry.update) for entry in stored.entries)
        return moved

    def fail(self, error: RoomError) -> None:
        """Nothing is appended or read any more, and whoever waits for what is not durable is told."""
        self.error = error
        self.journal.fail(error)
        # The committer finds that there is nothing to append any more.
        self._wake(self)
        self._failed(error)

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()

    # Appending

    def take(self) -> Append | None:
        """What the committer is to append next, or None while others' entries have to be read first."""
        if self._reading is not None or self.error is not None:
            return None
        drafts = self.journal.take()
        if not drafts:
            return None
        self._appending = True
        return Append(self.name, self.journal.head, drafts, self.lineage)

    def prepare_snapshot(self, append: Append) -> bool:
        """Encode the document as the log will be with `append`, which was just taken, if a snapshot is due; says whether."""
        if self._snapshot is not None or not self._snapshot_due(append.drafts):
            return False
        assert self.document is not None
        self._snapshot = Snapshot(append.expected + len(append.drafts), self.document.encode())
        return True

    @property
    def has_snapshot(self) -> bool:
        """Whether an encoded document waits for its append to be durable."""
        return self._snapshot is not None

    def appended(self) -> Sequence[Draft]:
        """What was taken is durable: acknowledge it. Returns what it was."""
        drafts = self.journal.take()
        self.created = True
        self._since_snapshot += len(drafts)
        self._since_snapshot_bytes += sum([len(draft.update) for draft in drafts])
        due = self.journal.settle()
        if due:
            self._acknowledge(due)
        self._answered()
        return drafts

    def unanswered(self) -> None:
        """Whether what was taken is durable is not known: read on to find out, then try again."""
        self._behind = math.inf
        self._answered()

    def conflicted(self, conflict: Conflict) -> None:
        """Somebody else appended first: read on, then try again."""
        if self.created and conflict.lineage == self.lineage and conflict.head < self.journal.head:
            log.error("the log ends before what was read of it", extra={"document": self.name, "head": conflict.head})
            self.fail(StoreUnavailable("the store has less of the document than was read; connect again"))
            return
        if conflict.lineage != self.lineage:
            if self.created:
                self.fail(LineageDiffers(conflict.lineage))
                return
            self.lineage, self.created = conflict.lineage, True
        self._behind = math.inf
        self._answered()

    def _answered(self) -> None:
        self._appending = False
        self.read_on(self._behind)

    def snapshot(self) -> Snapshot | None:
        """The snapshot to store now that all it covers is durable, when one is due."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            self._since_snapshot = 0
            self._since_snapshot_bytes = 0
        return snapshot

    def _snapshot_due(self, drafts: Sequence[Draft]) -> bool:
        limits, document = self._limits, self.document
        # The state must be the log's: only while nothing was applied that is not taken.
        return (
            document is not None
            and self.journal.all_taken
            and (
                self._since_snapshot + len(drafts) >= limits.snapshot_entries
                or self._since_snapshot_bytes > max(limits.snapshot_bytes, document.size)
            )
        )

    # Reading

    def news(self, news: NewEntries) -> None:
        """Another node says what it appended. What is said of another lineage is of another document."""
        after, drafts, lineage = news
        head = self.journal.head
        if self.document is None or after + len(drafts) <= head or (self.created and lineage != self.lineage):
            return
        if self._reading is not None:
            self.keep(news)
            return
        if after > head or self.journal.in_flight:
            self.read_on(after + len(drafts))
            return
        # A document that was not there when we looked has the lineage of who made it.
        self.lineage, self.created = lineage, True
        try:
            self._move([draft.update for draft in drafts[head - after :]])
        except RoomError as error:
            self.fail(error)

    def keep(self, news: NewEntries) -> None:
        """Hold on to what another node says until the store has answered: its answer may end before these entries."""
        self._said = max(self._said, news.after + len(news.drafts))
        size = sum([len(draft.update) for draft in news.drafts])
        if self._kept_bytes + size <= KEPT_BYTES:
            self._kept.append(news)
            self._kept_bytes += size + KEPT_OVERHEAD

    def follow_kept(self) -> None:
        """The store has answered: take in what was said meanwhile."""
        kept, said = self._kept, self._said
        self._kept, self._kept_bytes, self._said = [], 0, 0
        if not self.journal.in_flight:
            # Otherwise the next append finds out.
            for news in kept:
                self.news(news)
            self.read_on(said)

    def read_on(self, head: float) -> None:
        """Read what others appended up to number `head`, unless it is known; then go on appending.

        While an append is under way that waits: the number may turn out to be one of ours.
        """
        if self._appending:
            self._behind = max(self._behind, head)
            return
        self._behind = 0
        if self._reading is not None:
            self._said = max(self._said, head)
        elif head > self.journal.head and self.document is not None and self.error is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_to(head))

    async def _read_to(self, head: float) -> None:
        delay, more = 0.05, True
        try:
            while more and self.error is None:
                try:
                    if not self.created:
                        await self._learn_lineage()
                    page = max(READ_PAGE, self.journal.flight_entries)
                    entries = await self._store.read(self.name, self.journal.head, page)
                except StoreUnavailable:
                    await asyncio.sleep(delay)
                    delay = min(2.0, delay * 2)
                    continue
                more = len(entries) == page
                if self.journal.is_flight(entries):
                    entries = entries[len(self.appended()) :]
                if not entries:
                    continue
                if entries[0].seq != self.journal.head + 1:
                    raise StoreUnavailable("entries that this copy lacks were compacted; connect again")
                self._move([entry.update for entry in entries])
                more = more and self.journal.head < head
        except RoomError as error:
            self.fail(error)
        except Exception:
            log.exception("document not read on", extra={"document": self.name})
            self.fail(DocumentUnreadable("the server made an error while following the document"))
        finally:
            self._reading = None
        self.follow_kept()
        self._wake(self)

    async def catch_up(self) -> None:
        """Return when the document has all that the log had at the call. Raises `StoreUnavailable`."""
        full = True
        while full and self.error is None:
            ahead = await self._store.read(self.name, self.journal.head, READ_PAGE)
            full = len(ahead) == READ_PAGE
            if ahead:
                head = ahead[-1].seq
                self.news(NewEntries(head, (), self.lineage))
                while self.journal.head < head and self.error is None:
                    await asyncio.sleep(0.005)

    async def _learn_lineage(self) -> None:
        """The document was not there when we looked; another node may have made it, and its lineage is the document's."""
        lineage = (await self._store.load(self.name)).lineage
        if lineage is not None:
            self.lineage, self.created = lineage, True

    def _move(self, updates: Sequence[bytes]) -> None:
        """Others appended these, which are durable: the cursor moves behind them."""
        self._snapshot = None
        self._follow(updates)
        self.journal.head += len(updates)
        self._since_snapshot += len(updates)
        self._since_snapshot_bytes += sum([len(update) for update in updates])
