"""Two ways for news at once, where neither brings all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from server.bus.ports import NodeBus
from server.figures import Figure
from sync.rooms.ports import Listener, News


class BothBuses:
    """A node's end of two buses; see `server.bus.ports.NodeBus`. What comes over both is told twice, which a bus may do."""

    def __init__(self, one: NodeBus, other: NodeBus) -> None:
        """Takes both over, to close them."""
        self._one = one
        self._other = other

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        self._one.publish(document, news)
        self._other.publish(document, news)

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self._one.subscribe(document, listener)
        self._other.subscribe(document, listener)

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self._one.unsubscribe(document, listener)
        self._other.unsubscribe(document, listener)

    def figures(self) -> Sequence[Figure]:
        """See `NodeBus.figures`: those of both."""
        return [*self._one.figures(), *self._other.figures()]

    async def close(self) -> None:
        """See `Bus.close`."""
        await asyncio.gather(self._one.close(), self._other.close())
