"""Large edits wait a little, so that those which come at the same time are applied together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sync.rooms.intake import Arrival

LARGE = 1 << 10
"""Bytes from which an edit is more than somebody's typing: an offline queue, or a document that is brought along."""


class Gathering:
    """Gives a room's large edits at most half of the time: after some were applied, the next wait as long as those took.

    When many devices come back at once, applying what each brings on its own costs many times what it costs together (see
    `crdt.replica.Replica.absorb`), and they come faster than that. Meanwhile everybody else's edits go on.
    """

    __slots__ = ("_loop", "_not_before", "_proceed", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, proceed: Callable[[], None]) -> None:
        """`proceed` is called when what waits can be taken."""
        self._loop = loop
        self._proceed = proceed
        self._waiting: list[Arrival] = []
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held_back(self) -> int:
        """The bytes that wait."""
        return sum(len(update) for _, update, _ in self._waiting)

    def take(self, arrivals: list[Arrival]) -> tuple[list[Arrival], bool]:
        """Which of the arrivals, and of those that waited, are to be applied now, and whether large ones are among them.

        What a peer sent stays in order. With large ones, the caller says afterwards how long they `took`.
        """
        arrivals = self._waiting + arrivals
        large = {peer for peer, update, _ in arrivals if len(update) >= LARGE}
        if not large or self._loop.time() >= self._not_before:
            self._waiting = []
            return arrivals, bool(large)
        self._waiting = [arrival for arrival in arrivals if arrival[0] in large]
        if self._timer is None:
            self._timer = self._loop.call_at(self._not_before, self._expired)
        return [arrival for arrival in arrivals if arrival[0] not in large], False

    def took(self, seconds: float) -> None:
        """Large edits were applied in that time."""
        self._not_before = self._loop.time() + seconds

    def close(self) -> None:
        """Forget what waits."""
        self._waiting = []
        if self._timer is not None:
            self._timer.cancel()

    def _expired(self) -> None:
        self._timer = None
        self._proceed()
