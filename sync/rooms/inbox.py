"""Edits that came for a room and were not taken yet; large ones wait a little, to be applied together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sync.rooms.intake import Arrival
from sync.rooms.pending import PendingBytes

LARGE = 1 << 10
"""Bytes from which an edit is more than somebody's typing: an offline queue, or a document that is brought along."""


class Inbox:
    """Gives a room's large edits at most half of the time: after some were applied, the next wait as long as those took.

    When many devices come back at once, applying what each brings on its own costs many times what it costs together (see
    `crdt.replica.Replica.absorb`), and they come faster than that. Meanwhile everybody else's edits go on.
    """

    __slots__ = ("_arrivals", "_begun", "_large", "_loop", "_not_before", "_pending", "_proceed", "_timer", "bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop, pending: PendingBytes, proceed: Callable[[], None]) -> None:
        """`pending` counts what is in it; `proceed` is called when what waited can be taken."""
        self._loop = loop
        self._pending = pending
        self._proceed = proceed
        self._arrivals: list[Arrival] = []
        self.bytes = 0
        """The size of what is in it."""
        # Whether a large edit is in it.
        self._large = False
        # When those large edits were taken that are being applied.
        self._begun: float | None = None
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._arrivals)

    def add(self, arrival: Arrival) -> None:
        """Keep an edit until it is taken."""
        size = len(arrival[1])
        self._arrivals.append(arrival)
        self.bytes += size
        self._pending.add(size)
        if size >= LARGE:
            self._large = True

    def take(self) -> list[Arrival]:
        """What is to be applied now; the caller says when it is `applied`. What a peer sent stays in order."""
        arrivals, self._arrivals = self._arrivals, []
        self._pending.remove(self.bytes)
        self.bytes = 0
        if not self._large:
            return arrivals
        now = self._loop.time()
        if now >= self._not_before:
            self._large, self._begun = False, now
            return arrivals
        if self._timer is None:
            self._timer = self._loop.call_at(self._not_before, self._expired)
        large = {peer for peer, update, _, _ in arrivals if len(update) >= LARGE}
        self._arrivals = [arrival for arrival in arrivals if arrival[0] in large]
        self.bytes = sum(len(update) for _, update, _, _ in self._arrivals)
        self._pending.add(self.bytes)
        return [arrival for arrival in arrivals if arrival[0] not in large]

    def applied(self) -> None:
        """What was taken last is applied."""
        if self._begun is not None:
            now = self._loop.time()
            self._not_before, self._begun = now + (now - self._begun), None

    def clear(self) -> None:
        """Forget what is in it."""
        self._arrivals = []
        self._pending.remove(self.bytes)
        self.bytes = 0
        self._large = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        self._proceed()
