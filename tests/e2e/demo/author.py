"""One of the two people: a device with an outbox file of its own, which is online, offline or switched off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from pycrdt import Text, TransactionEvent

from ebbtide_client import Client, Connection, Document, Mode, Pushed, ServerBusy, Settings, Unreachable

DOCUMENT = "demo"
TEXT = "text"
SETTINGS = Settings(first_delay=0.1, longest_delay=1.0)
RETRY_SECONDS = 0.1


class Author:
    """Edits one text. `client_id` is its Yjs client id, kept across restarts."""

    def __init__(self, name: str, url: str, folder: Path, client_id: int) -> None:
        self.name = name
        self.client_id = client_id
        self.pushed = Pushed()
        self.failures = 0
        self.connects = 0
        self.restarts = -1
        self.heard = b""
        """The update of the newest transaction, its own or another's."""
        self._url = url
        self._path = folder / f"{name}.sqlite"

    async def start(self) -> None:
        """Switch the device on, offline, with what its outbox file remembers."""
        self._client = await Client(self._url, path=self._path, device=self.name, settings=SETTINGS).__aenter__()
        self.document: Document = await self._client.open(DOCUMENT, Mode.OFFLINE, client_id=self.client_id)
        self.text = self.document.ydoc.get(TEXT, type=Text)
        self._news = asyncio.Event()
        self._observer = self.document.ydoc.observe(self._hear)
        self._watch = asyncio.create_task(self._count_connects())
        self.restarts += 1

    async def stop(self) -> None:
        """Switch it off. What it has not sent stays in the file."""
        self._watch.cancel()
        self.document.ydoc.unobserve(self._observer)
        await self._client.__aexit__(None, None, None)

    @property
    def live(self) -> bool:
        return self.document.mode is Mode.LIVE

    @property
    def unsynced(self) -> int:
        return self.document.status.unsynced

    async def push(self, at_most: int | None = None) -> None:
        """Push a batch and pull, again and again until the server is there."""
        while True:
            before = self.unsynced
            try:
                pushed = await self.document.push(at_most)
            except (Unreachable, ServerBusy):
                self.failures += 1
                at_most = None if at_most is None else at_most - (before - self.unsynced)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.pushed.requests += pushed.requests
                self.pushed.applied += pushed.applied
                self.pushed.duplicate += pushed.duplicate
                return

    def clock(self, client_id: int) -> int:
        """How many Yjs operations of this client the replica has."""
        numbers = _var_uints(self.document.ydoc.get_state())
        next(numbers)
        return next((clock for id_, clock in zip(numbers, numbers, strict=True) if id_ == client_id), 0)

    async def has(self, client_id: int, clock: int) -> None:
        """Return when the replica has the client's operations up to `clock`."""
        while self.clock(client_id) < clock:
            self._news.clear()
            await self._news.wait()

    def _hear(self, event: TransactionEvent) -> None:
        self.heard = event.update
        self._news.set()

    async def _count_connects(self) -> None:
        was = Connection.OFFLINE
        async for status in self.document.changes():
            self.connects += status.connection is Connection.LIVE and was is not Connection.LIVE
            was = status.connection


def _var_uints(content: bytes) -> Iterator[int]:
    """The variable-length integers of lib0, of which a Yjs state vector consists."""
    value = shift = 0
    for byte in content:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0
