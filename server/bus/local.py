"""News between the nodes of one process."""

from __future__ import annotations

from collections.abc import Sequence

from server.bus.listeners import Listeners
from server.figures import Figure
from sync.rooms.ports import Listener, News


class LocalBus:
    """A hub in memory. Each node has an end of its own: what one publishes, the others hear."""

    def __init__(self) -> None:
        self._ends: list[LocalEnd] = []

    def connect(self) -> LocalEnd:
        """A further node's end."""
        end = LocalEnd(self)
        self._ends.append(end)
        return end

    def tell(self, publisher: LocalEnd, document: str, news: News) -> None:
        """Call the listeners of every end but the publisher's."""
        for end in list(self._ends):
            if end is not publisher:
                end.hear(document, news)

    def leave(self, end: LocalEnd) -> None:
        """Forget an end. Idempotent."""
        if end in self._ends:
            self._ends.remove(end)


class LocalEnd:
    """One node's end of a `LocalBus`; see `server.bus.ports.NodeBus`."""

    def __init__(self, hub: LocalBus) -> None:
        self._hub = hub
        self._listeners = Listeners()

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        self._hub.tell(self, document, news)

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self._listeners.subscribe(document, listener)

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self._listeners.unsubscribe(document, listener)

    def hear(self, document: str, news: News) -> None:
        """Tell this end's listeners of the document."""
        self._listeners.tell(document, news)

    def figures(self) -> Sequence[Figure]:
        """See `NodeBus.figures`: nothing here can go wrong."""
        return []

    async def close(self) -> None:
        """See `Bus.close`."""
        self._hub.leave(self)
        self._listeners.clear()
