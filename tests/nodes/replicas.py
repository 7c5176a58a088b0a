"""Replicas that write, and come back when they are sent away: one kind for each way in."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pycrdt

from ebbtide_client import Client, Mode, Settings
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_string
from sync.protocol.messages import SyncStep1, SyncStep2, SyncUpdate
from sync.protocol.yws import YWebSocket, read_sync
from tests.nodes.ledger import Ledger

MSGPACK = {"Content-Type": "application/msgpack"}
PACE = 0.1
"""Seconds between two edits of a writer."""

COME_BACK = 0.3
"""Seconds within which a replica comes back."""


def marks(doc: pycrdt.Doc[Any]) -> list[str]:
    """All marks of a document, in their order."""
    return list(doc.get("marks", type=pycrdt.Array))


class Replica(ABC):
    """One copy of `document`, that `run` keeps in sync with a server, and writes to until `stop` is set."""

    def __init__(self, url: str, document: str, name: str, ledger: Ledger) -> None:
        self.url = url
        self.document = document
        self.name = name
        self.ledger = ledger
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._count = 0

    @abstractmethod
    async def run(self, stop: asyncio.Event) -> None:
        """Endless: the caller cancels it."""

    def contents(self) -> list[str]:
        """The marks that this replica has, in their order: one that were there twice would show."""
        return marks(self.doc)

    def edit(self) -> tuple[str, bytes]:
        """Write one mark; it and its update."""
        before = self.doc.get_state()
        mark = f"{self.name}:{self._count}"
        self._count += 1
        self.ledger.write(self.document, mark)
        self.doc.get("marks", type=pycrdt.Array).append(mark)
        return mark, self.doc.get_update(before)


class _OnSocket(Replica):
    """A replica on a WebSocket: what was not acknowledged when the socket ended goes with the answer to the next step 1."""

    async def run(self, stop: asyncio.Event) -> None:
        """See `Replica.run`."""
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.ws_connect(self.address(), max_msg_size=0) as socket:
                        await self._talk(socket, stop)
                    self.ledger.met[f"close {socket.close_code}"] += 1
                except aiohttp.WSServerHandshakeError as error:
                    self.ledger.met[f"handshake {error.status}"] += 1
                except (aiohttp.ClientError, ConnectionError) as error:
                    self.ledger.met[type(error).__name__] += 1
                await asyncio.sleep(random.uniform(0, COME_BACK))

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse, stop: asyncio.Event) -> None:
        self.joined()
        for frame in self.greeting():
            await socket.send_bytes(frame)
        synced = asyncio.Event()
        writer = asyncio.create_task(self._write(socket, stop, synced))
        try:
            async for message in socket:
                assert message.type is aiohttp.WSMsgType.BINARY, message
                answer = self.heard(message.data, synced)
                if answer is not None:
                    await socket.send_bytes(answer)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, socket: aiohttp.ClientWebSocketResponse, stop: asyncio.Event, synced: asyncio.Event) -> None:
        await synced.wait()
        while not stop.is_set():
            await socket.send_bytes(self.sends(*self.edit()))
            await asyncio.sleep(PACE)

    @abstractmethod
    def address(self) -> str: ...

    @abstractmethod
    def joined(self) -> None:
        """A new socket: nothing is owed on it yet."""

    @abstractmethod
    def greeting(self) -> list[bytes]: ...

    @abstractmethod
    def sends(self, mark: str, update: bytes) -> bytes: ...

    @abstractmethod
    def heard(self, frame: bytes, synced: asyncio.Event) -> bytes | None:
        """Take a message; what to answer."""


class OnYWebSocket(_OnSocket):
    """Over /ws/{document}: an edit is acknowledged when it comes back."""

    dialect = YWebSocket()

    def address(self) -> str:
        return f"{self.url}/ws/{self.document}"

    def joined(self) -> None:
        self._sent: dict[bytes, str] = {}

    def greeting(self) -> list[bytes]:
        return [self.dialect.step1("", self.doc.get_state())]

    def sends(self, mark: str, update: bytes) -> bytes:
        self._sent[update] = mark
        return self.dialect.update("", update)

    def heard(self, frame: bytes, synced: asyncio.Event) -> bytes | None:
        if frame[:2] == b"\x02\x00":
            return None  # not let in: the close that follows says why
        match self.dialect.decode(frame, self.document):
            case SyncStep1(state_vector=state_vector):
                return self.dialect.step2("", self.doc.get_update(state_vector))
            case SyncUpdate(update=update) if update in self._sent:
                self.ledger.acknowledge(self.document, self._sent.pop(update))
            case SyncStep2(update=update):
                self.doc.apply_update(update)
                synced.set()
            case SyncUpdate(update=update):
                self.doc.apply_update(update)
        return None


class OnHocuspocus(_OnSocket):
    """Over /collab: one SyncStatus for each step 2 and edit, in order."""

    dialect = Hocuspocus()

    def address(self) -> str:
        return f"{self.url}/collab"

    def joined(self) -> None:
        self._sent: list[str | None] = []

    def greeting(self) -> list[bytes]:
        prefix = write_var_string(self.document)
        return [prefix + b"\x02\x00" + write_var_string(""), self.dialect.step1(self.document, self.doc.get_state())]

    def sends(self, mark: str, update: bytes) -> bytes:
        self._sent.append(mark)
        return self.dialect.update(self.document, update)

    def heard(self, frame: bytes, synced: asyncio.Event) -> bytes | None:
        prefix = write_var_string(self.document)
        if frame == self.dialect.acknowledged(self.document, b""):
            mark = self._sent.pop(0)
            if mark is not None:
                self.ledger.acknowledge(self.document, mark)
            return None
        if frame == self.dialect.granted(self.document, True) or frame.startswith(prefix + b"\x01"):
            return None  # that, and presence, is of no concern here
        assert frame.startswith(prefix + b"\x00"), frame[:40]
        match read_sync(frame, len(prefix) + 1, self.document)[0]:
            case SyncStep1(state_vector=state_vector):
                self._sent.append(None)
                return self.dialect.step2(self.document, self.doc.get_update(state_vector))
            case SyncStep2(update=update):
                self.doc.apply_update(update)
                synced.set()
            case SyncUpdate(update=update):
                self.doc.apply_update(update)
        return None


class OnQueue(Replica):
    """Over /api/v1/sync: batches of entries, a receipt for each, and what others wrote. What got no answer is sent again."""

    async def run(self, stop: asyncio.Event) -> None:
        """See `Replica.run`."""
        async with aiohttp.ClientSession() as session:
            while True:
                edits = [] if stop.is_set() else [self.edit() for _ in range(5)]
                entries = [{"id": mark, "doc": self.document, "update": update} for mark, update in edits]
                pull = {self.document: self.doc.get_state()}
                answer = await self._push(session, msgpack.packb({"device": self.name, "entries": entries, "pull": pull}))
                for (mark, _), receipt in zip(edits, answer["receipts"], strict=True):
                    assert receipt["id"] == mark
                    assert receipt["status"] in ("applied", "duplicate"), receipt
                    self.ledger.acknowledge(self.document, mark)
                self.doc.apply_update(answer["deltas"][self.document]["update"])
                await asyncio.sleep(PACE)

    async def _push(self, session: aiohttp.ClientSession, body: bytes) -> dict[str, Any]:
        while True:
            try:
                async with session.post(f"{self.url}/api/v1/sync", data=body, headers=MSGPACK) as response:
                    if response.status == 200:
                        answer: dict[str, Any] = msgpack.unpackb(await response.read())
                        return answer
                    assert response.status in (502, 503), await response.text()
                    self.ledger.met[f"push {response.status}"] += 1
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
                self.ledger.met[f"push {type(error).__name__}"] += 1
            await asyncio.sleep(random.uniform(0, COME_BACK))


class OnPythonClient(Replica):
    """`ebbtide_client`, live or pushing."""

    def __init__(self, url: str, document: str, name: str, ledger: Ledger, mode: Mode, folder: Path) -> None:
        super().__init__(url, document, name, ledger)
        self._mode = mode
        self._path = folder / f"{name}.sqlite"

    async def run(self, stop: asyncio.Event) -> None:
        """See `Replica.run`."""
        settings = Settings(first_delay=0.1, longest_delay=0.5, gather=0.05, pull_interval=0.5)
        async with Client(self.url, path=self._path, settings=settings) as client:
            document = await client.open(self.document, self._mode)
            self.doc = document.ydoc
            while not stop.is_set():
                with document.edit():
                    mark, _ = self.edit()
                await asyncio.sleep(PACE)
                # Raises what a client cannot mend by itself.
                await document.synced()
                self.ledger.acknowledge(self.document, mark)
            await asyncio.Event().wait()
