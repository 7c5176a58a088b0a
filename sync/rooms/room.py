"""One open document on this node: takes edits in, applies them, tells the peers, and hands them to the committer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from crdt.document import Document, Verdict
from crdt.errors import CrdtError, MalformedPresence, MissingCauses
from crdt.updates import EMPTY_UPDATE
from sync.protocol.push import Delta
from sync.rooms.answers import Answer
from sync.rooms.attendance import Attendance
from sync.rooms.audience import SHARED_FRAMES, Audience
from sync.rooms.cursor import LogCursor
from sync.rooms.errors import DocumentUnreadable, Forbidden, LineageDiffers, RoomError
from sync.rooms.inbox import Inbox
from sync.rooms.intake import Arrival, Outcome
from sync.rooms.limits import RoomLimits
from sync.rooms.loading import Loading
from sync.rooms.peer import Peer
from sync.rooms.ports import NewEntries, NewPresence, News, PresenceWanted, Store
from sync.rooms.pushed import Pushed, take
from sync.rooms.services import NodeServices

log = logging.getLogger(__name__)


class Room:
    """A document, its peers, and the tail of its log that is not durable yet.

    Everything but loading happens synchronously in `turn`, once for all that arrived in a loop turn. The room comes and
    goes with its peers; the document in it comes with the first use and leaves when it was not used for a while.
    """

    __slots__ = (
        "_deltas",
        "_due",
        "_greetings",
        "_joining",
        "_limits",
        "_loading",
        "_loop",
        "_node",
        "_schedule",
        "_wake",
        "_wanting",
        "attendance",
        "audience",
        "inbox",
        "journal",
        "log",
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
        node: NodeServices,
    ) -> None:
        self.name = name
        self._node = node
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._schedule = node.schedule
        self._wake = node.wake
        self.scheduled = False
        self.audience = Audience(limits.backlog_bytes)
        self.attendance: Attendance | None = None
        self.log = LogCursor(
            name,
            store,
            limits,
            node.pending,
            wake=node.wake,
            follow=self._follow,
            acknowledge=self._acknowledge,
            failed=self._send_away,
        )
        self.journal = self.log.journal
        self.pins = 0
        self.used = self._loop.time()
        self._loading = Loading(self.log, self._loop, self._came)
        self._greetings: list[Peer] = []
        self._joining: list[Peer] = []
        # The acknowledgements that go out with this turn.
        self._due: dict[Peer, bytes] = {}
        # Peers whose updates wait for causes that they did not deliver.
        self._wanting: dict[Peer, None] = {}
        # Deltas for who pulls from the same place before the document changes.
        self._deltas: dict[bytes, bytes] = {}
        self.inbox = Inbox(self._loop, node.pending, self._proceed)
        """Edits that wait for the document to be loaded, or to be taken together."""

    # What peers do

    def join(self, peer: Peer) -> None:
        """Let the peer in and ask for what it has. It hears nothing else before its `sync_step1`."""
        first = not len(self.audience)
        self.audience.add(peer)
        if first:
            self._node.publish(self.name, PresenceWanted())
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
        self.inbox.add((peer, update, whole, peer.grant))
        if not self.scheduled:
            self._schedule(self)

    def awareness(self, peer: Peer, update: bytes) -> None:
        """The peer tells presence states. Raises `MalformedPresence`."""
        self._attended().receive(peer, update)

    def awareness_query(self, peer: Peer) -> None:
        """The peer asks who is here."""
        if self.attendance is not None:
            self.attendance.show(peer)

    def leave(self, peer: Peer) -> None:
        """The peer is gone; what it sent before counts. Idempotent."""
        self.audience.remove(peer)
        self._wanting.pop(peer, None)
        if self.attendance is not None:
            self.attendance.leave(peer)

    def _attended(self) -> Attendance:
        if self.attendance is None:
            node = self._node
            self.attendance = Attendance(
                self.audience, self._limits, self._loop, self._tell_nodes, node.presence, node.catch_ups
            )
        return self.attendance

    # What other nodes say

    def news(self, news: News) -> None:
        """Take in what another node says of the document."""
        if isinstance(news, NewEntries):
            if self.log.document is not None:
                self.log.news(news)
            elif len(self.audience) or self._loading.under_way:
                self.log.keep(news)
                self._loading.begin()
        elif isinstance(news, PresenceWanted):
            if self.attendance is not None:
                self.attendance.tell_nodes()
        elif len(self.audience):
            try:
                self._attended().follow(news.update)
            except MalformedPresence as error:
                log.warning("presence from another node not understood", extra={"document": self.name, "reason": error.reason})

    def _tell_nodes(self, presence: bytes) -> None:
        self._node.publish(self.name, NewPresence(presence))

    # What the offline queue does

    async def push(
        self, updates: Sequence[bytes], author: str, device: str, lineages: Sequence[str | None], patience: float = 0.0
    ) -> tuple[list[Outcome], int]:
        """Apply updates in order and wait until all that was applied is durable.

        `lineages` has for each update the lineage of the client's copy, or None where it does not know. Returns an outcome
        for each, and the number up to which the log holds every one that is APPLIED or DUPLICATE. Edits that cut characters
        wait until the node has time for them, up to `patience` seconds; what waits then is answered with `Overloaded`, and so
        is what came after it and may build on it. Raises `RoomError` when the document cannot be loaded.
        """
        self.pins += 1
        try:
            pushed = Pushed(updates, author, device, lineages)
            outcomes = await take(self, pushed, self._node.intake, self._node.pending, patience)
            # The room may have failed since the last of them was applied: then nobody says when they are durable.
            await self.loaded()
            return outcomes, await self.journal.wait(self.journal.applied)
        finally:
            self.pins -= 1

    async def pull(self, state_vector: bytes, answer: Answer) -> Delta:
        """What a copy with this state vector lacks, once it is durable, held by `answer`.

        Raises `MalformedStateVector` or `RoomError`.
        """
        self.pins += 1
        try:
            document = await self.loaded()
            place = document.place(state_vector)
            update = self._deltas.get(place)
            if update is None:
                answer.admit(document.size)
                update = document.diff(place)
                if len(self._deltas) == SHARED_FRAMES:
                    del self._deltas[next(iter(self._deltas))]
                self._deltas[place] = update
            answer.hold(update)
            seq = await self.journal.wait(self.journal.applied)
            return Delta(update, seq, self.log.lineage if self.log.created else None)
        finally:
            self.pins -= 1

    # A loop turn

    def turn(self) -> None:
        """Do all that arrived since the last turn: greet, apply, relay, answer who joins."""
        if self.log.error is not None:
            # From who has not heard yet that the room failed; nothing waits there for ever.
            self.inbox.clear()
            return
        document = self.log.document
        if document is None:
            if self.inbox or self._joining or self._greetings:
                self._loading.begin()
            return
        self.used = self._loop.time()
        if self.inbox:
            self._take_in(document, self.inbox.take())
            self.inbox.applied()
        if self._greetings:
            greetings, self._greetings = self._greetings, []
            state_vector = document.state_vector()
            for peer in greetings:
                if peer in self.audience:
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
        document = self.log.document
        if self.log.error is not None:
            self.audience.lagging.clear()
        elif document is None:
            self._loading.begin()
        else:
            for peer in self.audience.drained():
                self._catch_up(peer, document)

    def _catch_up(self, peer: Peer, document: Document) -> None:
        assert peer.behind is not None
        try:
            peer.behind = document.place(peer.behind)
            full = peer.outlet.backlog() > self._limits.backlog_bytes
            catch_ups = self._node.catch_ups
            if not full and (self.audience.shares(peer) or catch_ups.admits(document.size)):
                catch_ups.hold(self.audience.catch_up(peer, document.diff), peer.outlet)
            else:
                self.audience.lag([peer], peer.behind)
                self._node.lags(self)
        except CrdtError as error:
            peer.outlet.fail(error)

    def _take_in(self, document: Document, arrivals: list[Arrival]) -> None:
        journal = self.journal
        fresh: list[tuple[Peer | None, bytes]] = []
        outcomes = self._node.intake.arrivals(document, arrivals)
        for (peer, update, whole, grant), outcome in zip(arrivals, outcomes, strict=True):
            if outcome is Verdict.APPLIED:
                fresh.append((peer, update))
                journal.add(update, grant.author, grant.device)
                journal.owe(journal.applied, peer, peer.acknowledgement(update, whole=whole))
            elif outcome is Verdict.DUPLICATE:
                frame = peer.acknowledgement(update, whole=whole)
                if journal.idle:
                    self._due[peer] = self._due.get(peer, b"") + frame
                else:
                    journal.owe(journal.applied, peer, frame)
            elif isinstance(outcome, MissingCauses):
                asked = peer.ask_causes(document.state_vector(), outcome.missing)
                if not asked or not document.knows(outcome.missing):
                    self._wanting[peer] = None
            elif isinstance(outcome, Forbidden):
                peer.refuse()
            else:
                peer.outlet.fail(outcome)
        if fresh:
            self._relay(document, fresh)
            self._wake(self.log)

    def apply(self, pushed: Pushed) -> list[Outcome]:
        """Apply what an offline queue brings to the document, which is loaded; an outcome for each update."""
        document = self.log.document
        assert document is not None
        self.used = self._loop.time()
        if not self.log.created and not self.journal.applied:
            # A document that the store lost comes back from its copies as the one that it was.
            self.log.lineage = next(filter(None, pushed.lineages), self.log.lineage)
        strangers = [self.log.created and each is not None and each != self.log.lineage for each in pushed.lineages]
        outcomes = self._node.intake.updates(
            document, [EMPTY_UPDATE if s else u for u, s in zip(pushed.updates, strangers, strict=True)]
        )
        fresh: list[tuple[Peer | None, bytes]] = []
        for index, (update, outcome) in enumerate(zip(pushed.updates, outcomes, strict=True)):
            if strangers[index]:
                outcomes[index] = LineageDiffers(self.log.lineage)
            elif outcome is Verdict.APPLIED:
                self.journal.add(update, pushed.author, pushed.device)
                fresh.append((None, update))
        if fresh:
            self._relay(document, fresh)
            self._wake(self.log)
        return outcomes

    def _relay(self, document: Document, updates: Sequence[tuple[Peer | None, bytes]]) -> None:
        self._deltas.clear()
        full = self.audience.relay(updates, self._due)
        if full:
            self.audience.lag(full, document.state_vector())
            self._node.lags(self)
        if self._wanting:
            self._ask_again(document)

    def _ask_again(self, document: Document) -> None:
        """The document grew: perhaps by what updates waited for that their authors could not deliver."""
        for peer in list(self._wanting):
            if document.knows(peer.missing):
                del self._wanting[peer]
                if peer.causeless:
                    peer.ask_again(document.state_vector())

    # Loading and leaving

    async def loaded(self) -> Document:
        """The document, loaded. Raises `RoomError` when it cannot be."""
        while self.log.error is None:
            if self.log.document is not None:
                self.used = self._loop.time()
                return self.log.document
            await self._loading.ended()
        raise self.log.error

    def _proceed(self) -> None:
        self._schedule(self)

    def _came(self, left_at: bytes | None) -> None:
        """The document is in memory; peers who stayed since it left lack what others appended since."""
        if left_at is not None:
            self.audience.lag([peer for peer in self.audience if peer.live], left_at)
            self._node.lags(self)
        self.log.follow_kept()
        self._schedule(self)

    def catch_up_with_store(self, head: int) -> None:
        """The store has the log up to number `head`: read on that far, and tell the peers, if there are any."""
        if self.log.document is not None:
            self.log.read_on(head)
        elif len(self.audience):
            self._loading.begin()

    @property
    def resting(self) -> bool:
        """Whether the document is not in memory and nothing is under way."""
        return self.log.document is None and not self._loading.under_way and not self.log.reading and not self.pins

    def unload(self, now: float) -> bool:
        """Let the document leave memory if it was not used for a while and all of it is durable."""
        if (
            self.log.document is None
            or now - self.used < self._limits.idle_after
            or not self.journal.idle
            or self.inbox
            or self._due
            or self.log.reading
            or self.pins
            or self.audience.lagging
        ):
            return False
        if len(self.audience):
            self._loading.left(self.log.document.state_vector())
        self.log.document = None
        self.audience.forget_catch_ups()
        self._deltas.clear()
        return True

    def fail(self, error: RoomError) -> None:
        """Nothing can be done with this document now: everybody who is in the room is told, and sent away."""
        self.log.fail(error)

    def close(self) -> None:
        """Let nothing of the room go on: nobody uses it any more."""
        self.log.close()
        self._loading.cancel()
        self.inbox.clear()
        if self.attendance is not None:
            self.attendance.close()

    @property
    def failed(self) -> bool:
        """Whether the room is of no more use: whoever comes next gets a new one."""
        return self.log.error is not None

    # What the log's cursor asks for

    def _follow(self, updates: Sequence[bytes]) -> None:
        """Apply what others appended, which is durable, and tell our peers."""
        document = self.log.document
        assert document is not None
        if len(self.audience):
            # Where nobody listens any more, others' edits are no reason to hold the document.
            self.used = self._loop.time()
        outcomes = document.apply_all(updates, logged=True)
        for outcome in outcomes:
            if isinstance(outcome, CrdtError):
                raise DocumentUnreadable("an entry of the document's log cannot be applied; ask the operator")
        fresh = [update for update, outcome in zip(updates, outcomes, strict=True) if outcome is Verdict.APPLIED]
        if fresh:
            self._relay(document, [(None, update) for update in fresh])

    def _acknowledge(self, frames: Sequence[tuple[Peer, bytes]]) -> None:
        due = self._due
        for peer, frame in frames:
            due[peer] = due[peer] + frame if peer in due else frame
        self._schedule(self)

    def _send_away(self, error: RoomError) -> None:
        """Everybody who is in the room is told."""
        self.inbox.clear()
        self._joining.clear()
        for peer in list(self.audience):
            peer.outlet.fail(error)
