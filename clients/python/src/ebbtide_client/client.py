"""A device: its outbox, its server, its open documents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from ebbtide_client.document import Document, Engine
from ebbtide_client.endpoint import Endpoint, TokenSource, base_url
from ebbtide_client.exchange import Exchanges, Pushed
from ebbtide_client.live import LiveEngine
from ebbtide_client.outbox import Outbox
from ebbtide_client.push import PushEngine
from ebbtide_client.replica import Replica
from ebbtide_client.settings import Settings
from ebbtide_client.status import Mode
from ebbtide_client.troubles import Troubles


class Client:
    """`async with Client("https://example.org", path="outbox.sqlite", token=...) as client: ...`

    The URL is the server's own, without `/ws` or `/api`; `ws` and `wss` are taken for `http` and `https`, and what is no
    such URL raises `ValueError`. `path` is the SQLite file of the outbox, made if it is not there; one client at a time may
    have it open. `token` is a JWT, or a callable (plain or async) that returns a fresh one and is called again when the
    server refuses the last. `device` names this device in the server's log; by default it is a random id that the outbox keeps.
    """

    def __init__(
        self,
        url: str,
        *,
        path: str | Path,
        token: TokenSource = None,
        device: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._url = base_url(url)
        self._path = path
        self._token = token
        self._device = device
        self._settings = settings or Settings()
        self._documents: dict[str, Document] = {}
        self._replicas: dict[str, Replica] = {}
        self._troubles = Troubles()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Raises `OutboxInUse` or `OutboxFailed`. Needs no network."""
        self._outbox = await asyncio.to_thread(Outbox, self._path)
        self._endpoint = Endpoint(self._url, self._token, self._settings)
        self._exchanges = Exchanges(
            self._endpoint, self._outbox, self._replicas, self._device or self._outbox.device, self._settings
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for document in self._documents.values():
                await document.switch(Mode.OFFLINE)
        finally:
            await self._endpoint.close()
            self._outbox.close()

    async def open(self, name: str, mode: Mode = Mode.LIVE, *, client_id: int | None = None) -> Document:
        """The document as this device knows it, at once and without the network; `mode` says how it is kept in sync.

        Opened twice, it is the same object, switched to `mode`. `client_id` is the Yjs client id of the edits to come,
        a random one by default; whoever sets it sees to it that no two replicas ever write under one id.
        """
        async with self._opening:
            if name not in self._documents:
                stored = await asyncio.to_thread(self._outbox.load, name)
                self._replicas[name] = replica = Replica(name, self._outbox, stored, client_id)
                await replica.compact(self._settings.compact_after)
                self._documents[name] = Document(replica, self._exchanges, self._engine)
            document = self._documents[name]
            if document.mode is not mode:
                await document.switch(mode)
            return document

    def unsynced(self) -> dict[str, int]:
        """Documents with edits that wait to be sent, open or not, and how many."""
        return self._outbox.unsynced()

    async def push(self) -> Pushed:
        """Send all that waits, of closed documents too, and pull the open ones. Raises as `Document.push`."""
        return await self._exchanges.run(sorted(self._replicas.keys() | self.unsynced().keys()))

    async def discard(self, name: str) -> list[bytes]:
        """Forget this device's copy of a document; the next `open` takes the server's.

        Returns the updates that the server never confirmed, rejected ones included, so that they can be kept or shown.
        The way out of `LineageDiffers`, and of a rejected edit that later ones build on. Edits of an open `Document` of
        that name raise `OutboxFailed` from then on.
        """
        async with self._opening:
            document = self._documents.pop(name, None)
            if document is not None:
                await document.switch(Mode.OFFLINE)
                self._replicas.pop(name).discard()
            return await asyncio.to_thread(self._outbox.discard, name)

    def _engine(self, replica: Replica, mode: Mode) -> Engine:
        if mode is Mode.LIVE:
            return LiveEngine(replica, self._endpoint, self._outbox, self._exchanges, self._troubles, self._settings)
        return PushEngine(replica, self._exchanges, self._troubles, self._settings)
