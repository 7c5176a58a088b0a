"""One open document on this node: takes edits in, applies them, tells the peers, and hands them to the committer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crdt.document import Document, Verdict
from crdt.errors import CrdtError, MissingCauses
from crdt.updates import EMPTY_UPDATE
from sync.protocol.push import Delta
from sync.rooms.attendance import Attendance
from sync.rooms.audience import Audience
from sync.rooms.errors import (
    DocumentTooLarge,
    DocumentUnreadable,
    Forbidden,
    LineageDiffers,
    RoomError,
    StoreUnavailable,
    UpdateTooLarge,
)
from sync.rooms.journal import Journal
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Peer
from sync.rooms.ports import Append, Conflict, Draft, Store

log = logging.getLogger(__name__)

READ_PAGE = 1000
"""Entries read from the store at a time."""

PUSH_SLICE = 200
"""Pushed entries applied before everybody else has a turn."""

Outcome = Verdict | CrdtError | RoomError
"""What became of one update."""


class Snapshot(NamedTuple):
    """The encoded document as the log gives it up to number `seq`."""

    seq: int
    state: bytes


Arrival = tuple[Peer, bytes, bool]
"""A peer, an update of its, and whether that is all that the peer has beyond what we had."""


def _contains(document: Document, update: bytes) -> bool:
    """Whether the document has everything of the update already: what a reader answers to our step 1, usually."""
    try:
        return Document.load([document.encode()]).apply(update) is Verdict.DUPLICATE
    except CrdtError:
        return False


class Room:
    """A document, its peers, and the tail of its log that is not durable yet.

    Everything but loading happens synchronously in `turn`, once for all that arrived in a loop turn. The room comes and
    goes with its peers; the document in it comes with the first use and leaves when it was not used for a while.
    """

    __slots__ = (
        "_appending",
        "_arrivals",
        "_behind",
        "_document",
        "_due",
        "_failed",
        "_greetings",
        "_joining",
        "_lags",
        "_left_at",
        "_limits",
        "_loading",
        "_loop",
        "_reading",
        "_schedule",
        "_since_snapshot",
        "_since_snapshot_bytes",
        "_snapshot",
        "_store",
        "_wake",
        "attendance",
        "audience",
        "created",
        "journal",
        "lineage",
        "name",
        "pins",
        "scheduled",
        "used",
    )

    def __init__(
        self,
        name: str,
        store: Store,
        limits: RoomLimits,
        schedule: Callable[[Room], None],
        wake: Callable[[Room], None],
        lags: Callable[[Room], None],
    ) -> None:
        """`schedule` sees to it that `turn` is called, `wake` that `take` is, and `lags` that `drain` is."""
        self.name = name
        self._store = store
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._schedule = schedule
        self._wake = wake
        self._lags = lags
        self.scheduled = False
        self.audience = Audience(limits.backlog_bytes)
        self.attendance: Attendance | None = None
        self.journal = Journal()
        self.lineage = ""
        self.created = False
        self.pins = 0
        self.used = self._loop.time()
        self._document: Document | None = None
        self._left_at: bytes | None = None
        self._loading: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        # The store has an append of ours and has not answered. What it holds may be ours or not: nothing is read until then.
        self._appending = False
        self._behind = False
        self._failed: RoomError | None = None
        self._greetings: list[Peer] = []
        self._joining: list[Peer] = []
        # The acknowledgements that go out with this turn.
        self._due: dict[Peer, bytes] = {}
        self._arrivals: list[Arrival] = []
        self._snapshot: Snapshot | None = None
        self._since_snapshot = 0
        self._since_snapshot_bytes = 0

    # What peers do

    def join(self, peer: Peer) -> None:
        """Let the peer in and ask for what it has. It hears nothing else before its `sync_step1`."""
        self.audience.add(peer)
        self._greetings.append(peer)
        self._schedule(self)

    def sync_step1(self, peer: Peer, state_vector: bytes) -> None:
        """The peer says what it has; it is answered with what it lacks, and is live from then on."""
        peer.silent = True
        peer.behind = state_vector
        self._joining.append(peer)
        self._schedule(self)

    def receive(self, peer: Peer, update: bytes, *, whole: bool = False) -> None:
        """The peer sends an edit, or in answer to our question the `whole` of what it has beyond our state vector."""
        self._arrivals.append((peer, update, whole))
        if not self.scheduled:
            self._schedule(self)

    def awareness(self, peer: Peer, update: bytes) -> None:
        """The peer tells presence states. Raises `MalformedPresence`."""
        if self.attendance is None:
            self.attendance = Attendance(self.audience, self._limits, self._loop)
        self.attendance.receive(peer, update)

    def awareness_query(self, peer: Peer) -> None:
        """The peer asks who is here."""
        if self.attendance is not None:
            self.attendance.show(peer)

    def leave(self, peer: Peer) -> None:
        """The peer is gone; what it sent before counts. Idempotent."""
        self.audience.remove(peer)
        if self.attendance is not None:
            self.attendance.leave(peer)

    # What the offline queue does

    async def push(
        self, updates: Sequence[bytes], author: str, device: str, lineages: Sequence[str | None]
    ) -> tuple[list[Outcome], int]:
        """Apply updates in order and wait until all that was applied is durable.

        `lineages` has for each update the lineage of the client's copy, or None where it does not know. Returns an outcome
        for each, and the number up to which the log holds every one that is APPLIED or DUPLICATE. Raises `RoomError` when
        the document cannot be loaded.
        """
        outcomes: list[Outcome] = []
        self.pins += 1
        try:
            for start in range(0, len(updates), PUSH_SLICE):
                await self.loaded()
                piece = updates[start : start + PUSH_SLICE]
                outcomes += self._apply_pushed(piece, author, device, lineages[start : start + PUSH_SLICE])
                await asyncio.sleep(0)
            return outcomes, await self.journal.wait(self.journal.applied)
        finally:
            self.pins -= 1

    async def pull(self, state_vector: bytes) -> Delta:
        """What a copy with this state vector lacks, once it is durable. Raises `MalformedStateVector` or `RoomError`."""
        self.pins += 1
        try:
            document = await self.loaded()
            update = document.diff(state_vector)
            seq = await self.journal.wait(self.journal.applied)
            return Delta(update, seq, self.lineage if self.created else None)
        finally:
            self.pins -= 1

    # A loop turn

    def turn(self) -> None:
        """Do all that arrived since the last turn: greet, apply, relay, answer who joins."""
        document = self._document
        if document is None:
            if self._failed is None and (self._arrivals or self._joining or self._greetings):
                self._load()
            return
        self.used = self._loop.time()
        if self._arrivals:
            arrivals, self._arrivals = self._arrivals, []
            self._take_in(document, arrivals)
        if self._greetings:
            greetings, self._greetings = self._greetings, []
            state_vector = document.state_vector()
            for peer in greetings:
                peer.ask(state_vector)
                self.awareness_query(peer)
        if self._joining:
            joining, self._joining = self._joining, []
            for peer in joining:
                # One that asked twice in this turn, or lagged and drained meanwhile, has its answer already.
                if peer.behind is not None and peer in self.audience:
                    self._catch_up(peer, document)
        if self._due:
            # Hocuspocus 4 providers count as synced once their step 2 is acknowledged, so what they lack comes first.
            due, self._due = self._due, {}
            for peer, frames in due.items():
                peer.outlet.write(frames)

    def drain(self) -> None:
        """Catch up the lagging peers whose transports have room again."""
        if self._failed is not None:
            self.audience.lagging.clear()
            return
        if self._document is None:
            self._load()
            return
        for peer in self.audience.drained():
            self._catch_up(peer, self._document)

    def _catch_up(self, peer: Peer, document: Document) -> None:
        try:
            self.audience.catch_up(peer, document.diff)
        except CrdtError as error:
            peer.outlet.fail(error)

    def _take_in(self, document: Document, arrivals: list[Arrival]) -> None:
        journal = self.journal
        fresh: list[tuple[Peer | None, bytes]] = []
        for (peer, update, whole), outcome in zip(arrivals, self._apply_arrivals(document, arrivals), strict=True):
            if outcome is Verdict.APPLIED:
                fresh.append((peer, update))
                journal.add(update, peer.author, peer.device)
                journal.owe(journal.applied, peer, peer.acknowledgement(update, whole=whole))
            elif outcome is Verdict.DUPLICATE:
                frame = peer.acknowledgement(update, whole=whole)
                if journal.idle:
                    self._due[peer] = self._due.get(peer, b"") + frame
                else:
                    journal.owe(journal.applied, peer, frame)
            elif isinstance(outcome, MissingCauses):
                peer.ask_causes(document.state_vector())
            elif isinstance(outcome, Forbidden):
                peer.refuse()
            else:
                peer.outlet.fail(outcome)
        if fresh:
            self._relay(document, fresh)
            self._wake(self)

    def _apply_arrivals(self, document: Document, arrivals: list[Arrival]) -> Sequence[Outcome]:
        updates: list[bytes] = []
        size = document.size
        largest = self._limits.update_bytes
        for peer, update, _ in arrivals:
            if not peer.can_write or len(update) > largest:
                break
            size += len(update)
            updates.append(update)
        else:
            if size <= self._limits.document_bytes:
                return document.apply_all(updates)
        return self._apply(document, [update for _, update, _ in arrivals], [peer for peer, _, _ in arrivals])

    def _apply_pushed(
        self, updates: Sequence[bytes], author: str, device: str, lineages: Sequence[str | None]
    ) -> list[Outcome]:
        document = self._document
        assert document is not None
        self.used = self._loop.time()
        if self.created:
            strangers = [lineage is not None and lineage != self.lineage for lineage in lineages]
        else:
            strangers = [False] * len(lineages)
        outcomes = self._apply(document, [EMPTY_UPDATE if s else u for u, s in zip(updates, strangers, strict=True)])
        fresh: list[tuple[Peer | None, bytes]] = []
        for index, (update, outcome) in enumerate(zip(updates, outcomes, strict=True)):
            if strangers[index]:
                outcomes[index] = LineageDiffers(self.lineage)
            elif outcome is Verdict.APPLIED:
                self.journal.add(update, author, device)
                fresh.append((None, update))
        if fresh:
            self._relay(document, fresh)
            self._wake(self)
        return outcomes

    def _apply(self, document: Document, updates: Sequence[bytes], authors: Sequence[Peer] | None = None) -> list[Outcome]:
        """Apply what is allowed, in one go; an outcome for each update."""
        limits = self._limits
        refusals: dict[int, RoomError] = {}
        size = document.size
        for index, update in enumerate(updates):
            size += len(update)
            if authors is not None and not authors[index].can_write:
                if update != EMPTY_UPDATE and not _contains(document, update):
                    refusals[index] = Forbidden("this token may read the document but not change it")
            elif len(update) > limits.update_bytes:
                refusals[index] = UpdateTooLarge(len(update), limits.update_bytes)
            elif size > limits.document_bytes and update != EMPTY_UPDATE:
                refusals[index] = DocumentTooLarge(limits.document_bytes)
        if not refusals:
            return list(document.apply_all(updates))
        allowed = iter(document.apply_all([u for i, u in enumerate(updates) if i not in refusals]))
        return [refusals[index] if index in refusals else next(allowed) for index in range(len(updates))]

    def _relay(self, document: Document, updates: Sequence[tuple[Peer | None, bytes]]) -> None:
        full = self.audience.relay(updates, self._due)
        if full:
            self.audience.lag(full, document.state_vector())
            self._lags(self)

    # Loading and leaving

    async def loaded(self) -> Document:
        """The document, loaded. Raises `RoomError` when it cannot be."""
        while self._failed is None:
            if self._document is not None:
                self.used = self._loop.time()
                return self._document
            self._load()
            assert self._loading is not None
            await asyncio.shield(self._loading)
        raise self._failed

    def _load(self) -> None:
        if self._loading is None:
            self._loading = self._loop.create_task(self._load_from_store())

    async def _load_from_store(self) -> None:
        try:
            stored = await self._store.load(self.name)
            if self.created and stored.lineage != self.lineage:
                raise LineageDiffers(stored.lineage or "")
            states = [] if stored.snapshot is None else [stored.snapshot]
            document = Document.load(states + [entry.update for entry in stored.entries])
        except CrdtError as error:
            log.error("document cannot be loaded", extra={"document": self.name, "code": error.code})
            self.fail(DocumentUnreadable("what is stored of the document cannot be read; ask the operator"))
        except RoomError as error:
            self.fail(error)
        except Exception:
            log.exception("document not loaded", extra={"document": self.name})
            self.fail(DocumentUnreadable("the server made an error while loading the document"))
        else:
            self._document = document
            self.created = stored.lineage is not None
            self.lineage = stored.lineage or secrets.token_hex(8)
            moved, self.journal.head = stored.head != self.journal.head, stored.head
            self._since_snapshot = len(stored.entries)
            self._since_snapshot_bytes = sum(len(entry.update) for entry in stored.entries)
            if moved and self._left_at is not None:
                self.audience.lag([peer for peer in self.audience if peer.live], self._left_at)
                self._lags(self)
            self._left_at = None
            self._schedule(self)
        finally:
            self._loading = None

    @property
    def resting(self) -> bool:
        """Whether the document is not in memory and nothing is under way."""
        return self._document is None and self._loading is None and self._reading is None and not self.pins

    def unload(self, now: float) -> bool:
        """Let the document leave memory if it was not used for a while and all of it is durable."""
        if (
            self._document is None
            or now - self.used < self._limits.idle_after
            or not self.journal.idle
            or self._arrivals
            or self._reading is not None
            or self.pins
            or self.audience.lagging
        ):
            return False
        if len(self.audience):
            self._left_at = self._document.state_vector()
        self._document = None
        self.audience.forget_catch_ups()
        return True

    def fail(self, error: RoomError) -> None:
        """Nothing can be done with this document now: everybody who is in the room is told, and sent away."""
        self._failed = error
        self.journal.fail(error)
        self._arrivals.clear()
        self._joining.clear()
        for peer in list(self.audience):
            peer.outlet.fail(error)

    def close(self) -> None:
        """Let nothing of the room go on: nobody uses it any more."""
        for task in (self._loading, self._reading):
            if task is not None:
                task.cancel()
        if self.attendance is not None:
            self.attendance.close()

    @property
    def failed(self) -> bool:
        """Whether the room is of no more use: whoever comes next gets a new one."""
        return self._failed is not None

    # Between memory and store

    def take(self) -> Append | None:
        """What the committer is to append next, or None while the room has to read on first."""
        if self._reading is not None or self._failed is not None:
            return None
        drafts = self.journal.take()
        if not drafts:
            return None
        if self._snapshot is None and self._snapshot_due(drafts):
            assert self._document is not None
            self._snapshot = Snapshot(self.journal.head + len(drafts), self._document.encode())
        self._appending = True
        return Append(self.name, self.journal.head, drafts, self.lineage)

    def appended(self) -> tuple[int, Sequence[Draft]]:
        """What was taken is durable: acknowledge it. The number it follows, and what it was."""
        after, drafts = self.journal.head, self.journal.take()
        self.created = True
        self._since_snapshot += len(drafts)
        self._since_snapshot_bytes += sum(len(draft.update) for draft in drafts)
        due = self._due
        for peer, frame in self.journal.settle():
            due[peer] = due[peer] + frame if peer in due else frame
        if due:
            self._schedule(self)
        self._answered()
        return after, drafts

    def unanswered(self) -> None:
        """Whether what was taken is durable is not known: read on to find out, then try again."""
        self._behind = True
        self._answered()

    def conflicted(self, conflict: Conflict) -> None:
        """Somebody else appended first: read on, then try again."""
        if conflict.lineage != self.lineage:
            if self.created:
                self.fail(LineageDiffers(conflict.lineage))
                return
            self.lineage, self.created = conflict.lineage, True
        self._behind = True
        self._answered()

    def _answered(self) -> None:
        self._appending = False
        if self._behind:
            self.read_on()

    def snapshot(self) -> Snapshot | None:
        """The snapshot to store now that all it covers is durable, when one is due."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            self._since_snapshot = 0
            self._since_snapshot_bytes = 0
        return snapshot

    def _snapshot_due(self, drafts: Sequence[Draft]) -> bool:
        limits, document = self._limits, self._document
        # The state must be the log's: only while nothing was applied that is not taken.
        return (
            document is not None
            and self.journal.all_taken
            and (
                self._since_snapshot + len(drafts) >= limits.snapshot_entries
                or self._since_snapshot_bytes > max(limits.snapshot_bytes, document.size)
            )
        )

    def news(self, after: int, drafts: Sequence[Draft]) -> None:
        """Another node says that `drafts` follow number `after` of the log."""
        if self._document is None or after + len(drafts) <= self.journal.head:
            return
        if after > self.journal.head or self.journal.in_flight or self._reading is not None or not self.created:
            self.read_on()
            return
        try:
            self._follow(self._document, [draft.update for draft in drafts[self.journal.head - after :]])
        except RoomError as error:
            self.fail(error)

    def catch_up_with_store(self) -> None:
        """Somebody else may have appended: read on, and tell the peers, if there are any."""
        if self._document is not None:
            self.read_on()
        elif len(self.audience):
            self._load()

    def read_on(self) -> None:
        """Read what others appended behind our head, then go on appending."""
        self._behind = self._appending
        if self._appending:
            return
        if self._reading is None and self._document is not None and self._failed is None:
            self._reading = self._loop.create_task(self._read_on(self._document))

    async def _read_on(self, document: Document) -> None:
        delay = 0.05
        try:
            while self._failed is None:
                try:
                    if not self.created:
                        await self._learn_lineage()
                    page = max(READ_PAGE, self.journal.flight_entries)
                    entries = await self._store.read(self.name, self.journal.head, page)
                except StoreUnavailable:
                    await asyncio.sleep(delay)
                    delay = min(2.0, delay * 2)
                    continue
                if self.journal.is_flight(entries):
                    _, drafts = self.appended()
                    entries = entries[len(drafts) :]
                if not entries:
                    break
                if entries[0].seq != self.journal.head + 1:
                    raise StoreUnavailable("entries that this copy lacks were compacted; connect again")
                self._follow(document, [entry.update for entry in entries])
        except RoomError as error:
            self.fail(error)
        except Exception:
            log.exception("document not read on", extra={"document": self.name})
            self.fail(DocumentUnreadable("the server made an error while following the document"))
        finally:
            self._reading = None
        self._wake(self)

    async def _learn_lineage(self) -> None:
        """The document was not there when we looked; another node may have made it, and its lineage is the document's."""
        lineage = (await self._store.load(self.name)).lineage
        if lineage is not None:
            self.lineage, self.created = lineage, True

    def _follow(self, document: Document, updates: Sequence[bytes]) -> None:
        """Apply what others appended, which is durable, and tell our peers."""
        self._snapshot = None
        outcomes = document.apply_all(updates)
        for outcome in outcomes:
            if isinstance(outcome, CrdtError):
                raise DocumentUnreadable("an entry of the document's log cannot be applied; ask the operator")
        self.journal.head += len(updates)
        self._since_snapshot += len(updates)
        fresh = [u for u, outcome in zip(updates, outcomes, strict=True) if outcome is Verdict.APPLIED]
        if fresh:
            self._relay(document, [(None, update) for update in fresh])
