"""How many bytes of edits a node holds that are not durable, and whether it takes more."""

from __future__ import annotations

import asyncio


class PendingBytes:
    """The bytes of all edits of a node that wait in an inbox, or are applied and not durable.

    One serves all rooms of the node. Inboxes and journals count what comes and goes in the same moment, so whoever takes in
    edits and looks at `full` first keeps the node within its limit and the one thing that it took.
    """

    __slots__ = ("_relieved", "held", "limit")

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self.limit = limit
        self.held = 0
        """Bytes now."""
        self._relieved = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether more is held than the limit, so that nothing further is to be taken in."""
        return self.held > self.limit

    def add(self, size: int) -> None:
        """Count `size` bytes that came."""
        self.held += size

    def remove(self, size: int) -> None:
        """Count `size` bytes that went: durable, refused, moved on or given up."""
        self.held -= size
        if self.held <= self.limit:
            self._relieved.set()

    async def admit(self) -> None:
        """Return when the node can take more edits: at once, or after the store has caught up.

        Between the return and what the caller does at once nobody else takes in anything.
        """
        while self.full:
            self._relieved.clear()
            await self._relieved.wait()
