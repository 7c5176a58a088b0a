"""All open WebSockets of this process: counted, bounded, and sent away at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

from server.web.outlet import SocketOutlet
from sync.rooms.errors import Overloaded, ShuttingDown

RETRY_SPREAD = 2.0
"""Seconds over which clients are told to come back, so that they do not arrive all at once."""


class Sockets:
    """The open WebSockets."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[SocketOutlet, None] = {}
        self.draining = False
        """Whether the server stops: nobody new is let in."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[SocketOutlet]:
        return iter(list(self._open))

    def admit(self) -> None:
        """Raises `ShuttingDown` or `Overloaded` when no further WebSocket is taken."""
        if self.draining:
            raise ShuttingDown("this node stops; connect again in a moment")
        if len(self._open) >= self._limit:
            raise Overloaded("this node has as many connections as it may have; try again in a moment")

    def add(self, outlet: SocketOutlet) -> None:
        self._open[outlet] = None

    def discard(self, outlet: SocketOutlet) -> None:
        self._open.pop(outlet, None)

    async def drain(self, seconds: float) -> None:
        """Close all with 1012, each after a moment of its own within `seconds`, and name a further moment to come back."""
        self.draining = True
        loop = asyncio.get_running_loop()
        for outlet in self:
            retry = random.uniform(0, RETRY_SPREAD)  # noqa: S311 - spreads load, guards nothing
            error = ShuttingDown(f"restarting; connect again in {retry:.1f} s")
            loop.call_later(random.uniform(0, seconds), outlet.fail, error)  # noqa: S311
        deadline = loop.time() + seconds + 1.0
        while self._open and loop.time() < deadline:
            await asyncio.sleep(0.02)
        for outlet in self:
            outlet.abort()
