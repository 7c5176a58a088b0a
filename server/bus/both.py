"""Two ways for news at once, where neither brings all of it."""

from __future__ import annotations

import asyncio

from sync.rooms.ports import Bus, Listener, News


class BothBuses:
    """A node's end of two buses; see `sync.rooms.ports.Bus`. What comes over both is told twice, which a bus may do."""

    def __init__(self, one: Bus, other: Bus) -> None:
        """Takes both over, to close them."""
        self.one = one
        self.other = other

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        self.one.publish(document, news)
        self.other.publish(document, news)

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self.one.subscribe(document, listener)
        self.other.subscribe(document, listener)

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self.one.unsubscribe(document, listener)
        self.other.unsubscribe(document, listener)

    async def close(self) -> None:
        """See `Bus.close`."""
        await asyncio.gather(self.one.close(), self.other.close())
