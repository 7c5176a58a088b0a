"""Who listens for which document, on a node's end of a bus."""

from __future__ import annotations

from collections.abc import Iterator

from sync.rooms.ports import Listener, News


class Listeners:
    """The subscriptions of one end; `subscribe` and `unsubscribe` are those of `sync.rooms.ports.Bus`."""

    def __init__(self) -> None:
        self._listeners: dict[str, dict[Listener, None]] = {}

    def __contains__(self, document: str) -> bool:
        return document in self._listeners

    def __iter__(self) -> Iterator[str]:
        """The documents that are listened for."""
        return iter(self._listeners)

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

    def tell(self, document: str, news: News) -> None:
        """Call those that listen for the document."""
        listeners = self._listeners.get(document, {})
        for listener in list(listeners):
            # An earlier one may have ended its subscription.
            if listener in listeners:
                listener(document, news)

    def clear(self) -> None:
        """End all subscriptions."""
        self._listeners.clear()
