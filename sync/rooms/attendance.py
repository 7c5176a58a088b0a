"""A room's presence on the wire: changes gathered for a moment, then one shared frame for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crdt.presence import Presence, PresenceBudget
from sync.protocol.frame import binary
from sync.rooms.audience import Audience
from sync.rooms.catch_ups import CatchUps
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Peer

GATHER_PER_PEER = 0.0001
"""Seconds that changes are gathered for each peer in the room: sending costs a write a peer, so a crowd is told in
fewer and larger frames, and two people at once."""

GATHER_MOST = 0.1
"""The longest that a change is held back, in seconds."""

_NOBODY = b"\x00"
"""An awareness update without a state."""


class Attendance:
    """Who is here, and telling the others."""

    __slots__ = (
        "_audience",
        "_backlog_limit",
        "_budget",
        "_catch_ups",
        "_changed",
        "_loop",
        "_ours",
        "_presence",
        "_shown",
        "_tell_others",
        "_timer",
    )

    def __init__(
        self,
        audience: Audience,
        limits: RoomLimits,
        loop: asyncio.AbstractEventLoop,
        tell_others: Callable[[bytes], None],
        budget: PresenceBudget,
        catch_ups: CatchUps,
    ) -> None:
        """`tell_others` is given awareness updates for the other nodes; `budget` and `catch_ups` are the node's."""
        self._audience = audience
        self._tell_others = tell_others
        self._backlog_limit = limits.backlog_bytes
        self._loop = loop
        self._budget = budget
        self._catch_ups = catch_ups
        self._presence = Presence(limits.presence_state_bytes, limits.presence_timeout, budget=budget)
        # The frame that who comes next is shown too, until anything changes, and its dialect and address.
        self._shown: tuple[str, str, bytes] | None = None
        self._changed: set[int] = set()
        # Of those that changed, the ones that the other nodes have to be told of.
        self._ours: set[int] = set()
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._presence)

    def receive(self, peer: Peer, update: bytes) -> None:
        """Take an awareness update of the peer; ids that another socket introduced are passed over.

        Raises `MalformedPresence`.
        """
        passed_over = self._budget.passed_over
        changed = self._presence.apply(update, peer, self._loop.time())
        if self._budget.passed_over != passed_over and peer.outlet.backlog() <= self._backlog_limit:
            # Who is not shown hears no echo of his renewals, and clients that hear nothing go: see `Audience.announce`.
            peer.outlet.write(binary(peer.dialect.awareness(peer.address, _NOBODY)))
        self._ours |= changed
        self._tell(changed)

    def leave(self, peer: Peer) -> None:
        """The states that the peer introduced go with it."""
        changed = self._presence.leave(peer)
        self._ours |= changed
        self._tell(changed)

    def follow(self, update: bytes) -> None:
        """Take in what another node says of its clients. Raises `MalformedPresence`."""
        self._tell(self._presence.follow(update, self._loop.time()))

    def tell_nodes(self) -> None:
        """Tell the other nodes of everybody who is here."""
        here = self._presence.introduced_here()
        if here:
            self._tell_others(self._presence.encode(here))

    def expire(self) -> None:
        """States that nobody renewed in time go. Every node finds that out for itself."""
        self._tell(self._presence.expire(self._loop.time()))

    def show(self, peer: Peer) -> None:
        """Send the peer everybody's state, unless its transport or the node holds too much: states are renewed anyway."""
        if not len(self._presence) or peer.outlet.backlog() > self._backlog_limit:
            return
        channel = peer.dialect.name, peer.address
        if self._shown is not None and self._shown[:2] == channel:
            frame = self._shown[2]
        elif self._catch_ups.admits(self._presence.held):
            frame = binary(peer.dialect.awareness(peer.address, self._presence.encode()))
            self._shown = *channel, frame
        else:
            return
        peer.outlet.write(frame)
        self._catch_ups.hold(frame, peer.outlet)

    def close(self) -> None:
        """Send nothing any more, and hold nothing."""
        self._presence.clear()
        self._shown = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, changed: set[int]) -> None:
        if not changed:
            return
        self._shown = None
        self._changed |= changed
        if self._timer is None:
            delay = min(GATHER_MOST, GATHER_PER_PEER * len(self._audience))
            self._timer = self._loop.call_later(delay, self._send)

    def _send(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, set()
        self._audience.announce(self._presence.encode(changed))
        ours, self._ours = self._ours, set()
        if ours:
            self._tell_others(self._presence.encode(ours))
