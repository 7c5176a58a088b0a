"""News between the nodes of one process."""

from __future__ import annotations

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
    """One node's end of a `LocalBus`; see `sync.rooms.ports.Bus`."""

    def __init__(self, hub: LocalBus) -> None:
        self._hub = hub
        self._listeners: dict[str, dict[Listener, None]] = {}

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        self._hub.tell(self, document, news)

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self._listeners.setdefault(document, {})[listener] = None

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        listeners = self._listeners.get(document)
        if listeners is not None:
            listeners.pop(listener, None)
            if not listeners:
                del self._listeners[document]

    def hear(self, document: str, news: News) -> None:
        """Tell this end's listeners of the document."""
        listeners = self._listeners.get(document, {})
        for listener in list(listeners):
            # An earlier one may have ended its subscription.
            if listener in listeners:
                listener(document, news)

    async def close(self) -> None:
        """See `Bus.close`."""
        self._hub.leave(self)
        self._listeners.clear()
