"""All open WebSockets of this process: counted, bounded, asked whether they live, and sent away at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from sync.rooms.errors import Overloaded, ShuttingDown

PING_SECONDS = 30
"""Between two pings, and how long a peer may say nothing after one. Hocuspocus providers 2 and 3 count on a ping every 30 s."""

RETRY_SPREAD = 2.0
"""Seconds over which clients are told to come back, so that they do not arrive all at once."""


class OpenSocket(Protocol):
    """What is asked of a WebSocket here."""

    def ping(self) -> bool:
        """Send a ping; False when the peer gave no sign of itself since the last one."""
        ...

    def fail(self, error: Exception) -> None:
        """Begin to close the connection with the error's close code and reason. Idempotent."""
        ...

    def evict(self, error: Exception) -> None:
        """The same, and let go at once of all that is held for the socket. It may not call `Sockets.hold` from there."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...


HELD_FACTOR = 16
"""How many of the largest messages the node holds of what clients have begun to send, in bytes."""


class Sockets:
    """The open WebSockets, in as many groups as there are seconds between two pings, so that one timer serves all."""

    def __init__(self, limit: int, largest_message: int) -> None:
        self._limit = limit
        # Who holds something, and how much: those who began first come first.
        self._holding: dict[OpenSocket, int] = {}
        self._held = 0
        self._held_most = largest_message * HELD_FACTOR
        self._open: dict[OpenSocket, int] = {}
        self._groups: list[dict[OpenSocket, None]] = [{} for _ in range(PING_SECONDS)]
        self._group = 0
        self.leaving = False
        """Whether the server is about to stop, or stops: others are told to send nobody here any more."""
        self.draining = False
        """Whether the server stops: nobody new is let in."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenSocket]:
        return iter(list(self._open))

    def admit(self) -> None:
        """Raises `ShuttingDown` or `Overloaded` when no further WebSocket is taken."""
        if self.draining:
            raise ShuttingDown("this node stops; connect again in a moment")
        if len(self._open) >= self._limit:
            raise Overloaded("this node has as many connections as it may have; try again in a moment")

    def hold(self, socket: OpenSocket, size: int) -> None:
        """The socket holds `size` bytes of messages that are not whole, or wait for a token, in place of what it held before.

        When all hold more than the node may, those are evicted who have held something longest: an honest message is soon
        whole, so nobody can shut others out by holding much, or by being many who hold a little.
        """
        more = size - self._holding.get(socket, 0)
        self._held += more
        if size:
            self._holding[socket] = size
        else:
            self._holding.pop(socket, None)
        while more > 0 and self._held > self._held_most:
            oldest = next(iter(self._holding))
            self._held -= self._holding.pop(oldest)
            oldest.evict(Overloaded("too many unfinished messages are on their way to this node; connect again in a moment"))

    def add(self, socket: OpenSocket) -> None:
        """Count the socket, and ping it, until it is discarded. `admit` comes first."""
        self._open[socket] = self._group
        self._groups[self._group][socket] = None

    def discard(self, socket: OpenSocket) -> None:
        """The socket is gone, and holds nothing. Unknown ones are ignored."""
        group = self._open.pop(socket, None)
        if group is not None:
            del self._groups[group][socket]
        self.hold(socket, 0)

    async def watch(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Ping every socket now and then, and drop those that are gone. Endless. `sleep` waits for so many seconds."""
        while True:
            await sleep(1.0)
            self._group = (self._group + 1) % PING_SECONDS
            for socket in list(self._groups[self._group]):
                if not socket.ping():
                    socket.abort()

    async def drain(self, seconds: float) -> None:
        """Close all with 1012, each after a moment of its own within `seconds`, and name a further moment to come back."""
        self.leaving = self.draining = True
        loop = asyncio.get_running_loop()
        for socket in self:
            retry = random.uniform(0, RETRY_SPREAD)  # noqa: S311 - spreads load, guards nothing
            error = ShuttingDown(f"restarting; connect again in {retry:.1f} s")
            loop.call_later(random.uniform(0, seconds), socket.fail, error)  # noqa: S311
        deadline = loop.time() + seconds + 1.0
        while self._open and loop.time() < deadline:
            await asyncio.sleep(0.02)
        for socket in self:
            socket.abort()
