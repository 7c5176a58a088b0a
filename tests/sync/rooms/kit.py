"""What the tests of rooms are made of: clients behind recording outlets, and a real store that can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pycrdt

from crdt.errors import CrdtError
from server.bus.local import LocalBus
from server.stores.sqlite import open_sqlite
from sync.protocol.messages import Awareness, Message, SyncStep1, SyncStep2, SyncUpdate
from sync.protocol.push import Delta
from sync.protocol.yws import YWebSocket
from sync.rooms.errors import RoomError, StoreUnavailable
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Peer
from sync.rooms.ports import Adoption, Append, Appended, Bus, Changes, Conflict, Entry, Store, Stored
from sync.rooms.registry import Rooms
from sync.rooms.room import Room

YWS = YWebSocket()
PATIENCE = 10.0
"""Seconds after which something that does not come counts as failed."""


def frames(data: bytes) -> list[bytes]:
    """The payloads of whole unmasked WebSocket frames (RFC 6455, section 5.2)."""
    payloads, at = [], 0
    while at < len(data):
        assert data[at] == 0x82
        length, at = data[at + 1], at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        payloads.append(data[at : at + length])
        at += length
    return payloads


class RecordingOutlet:
    """Keeps what it is given. `stuck` is the number of bytes that it says its transport has not taken."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.errors: list[CrdtError | RoomError] = []
        self.stuck = 0
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._changed.set()

    def backlog(self) -> int:
        return self.stuck

    def fail(self, error: CrdtError | RoomError) -> None:
        self.errors.append(error)
        self._changed.set()

    @property
    def messages(self) -> list[Message]:
        """All that was written, decoded as y-websocket."""
        return [YWS.decode(payload, "") for data in self.writes for payload in frames(data)]

    def of(self, kind: type[SyncStep1 | SyncStep2 | SyncUpdate | Awareness]) -> list[Any]:
        return [message for message in self.messages if type(message) is kind]

    @property
    def updates(self) -> list[bytes]:
        """Contents of update messages, acknowledgements included."""
        return [message.update for message in self.of(SyncUpdate)]

    async def until(self, condition: Callable[[RecordingOutlet], object]) -> None:
        """Return when the condition holds; it is looked at after each write."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


class Client:
    """A replica with a peer in a room. `edit` changes the replica; sending is the test's affair."""

    def __init__(self, room: Room, *, author: str = "", can_write: bool = True) -> None:
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self.outlet = RecordingOutlet()
        self.room = room
        self.peer = Peer(self.outlet, YWS, room.name, author=author, can_write=can_write)

    def edit(self, text: str) -> bytes:
        """Append to the text; the update that says so."""
        before = self.doc.get_state()
        body = self.doc.get("text", type=pycrdt.Text)
        body += text
        return self.doc.get_update(before)

    def send(self, *updates: bytes) -> None:
        for update in updates:
            self.room.receive(self.peer, update)

    async def join(self) -> Client:
        """Enter, and return when the room has answered."""
        self.room.join(self.peer)
        self.room.sync_step1(self.peer, self.doc.get_state())
        await self.outlet.until(lambda outlet: outlet.of(SyncStep2) or outlet.errors)
        return self

    async def acknowledged(self, *updates: bytes) -> None:
        await self.outlet.until(lambda outlet: set(updates) <= set(outlet.updates))

    async def holds(self, text: str) -> None:
        """Return when the text is what a replica holds that was sent the same."""
        await self.outlet.until(lambda _: self.text == text)

    @property
    def text(self) -> str:
        """What a replica holds that has taken in everything this client was sent, and made nothing itself."""
        return text_of([m.update for m in self.outlet.messages if isinstance(m, SyncStep2 | SyncUpdate)])


def text_of(updates: Iterable[bytes]) -> str:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        doc.apply_update(update)
    return str(doc.get("text", type=pycrdt.Text))


def edits(*texts: str) -> list[bytes]:
    """Updates of one fresh replica, each building on the one before."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    body = doc.get("text", type=pycrdt.Text)
    updates = []
    for text in texts:
        before = doc.get_state()
        body += text
        updates.append(doc.get_update(before))
    return updates


class Interruptible:
    """A real store behind a switch.

    While `away`, every call raises. `lose_answers` is how many appends are to be written and then raise. While `gate` is
    not set, answers of appends that were written are held back; while `loads` is not set, loads are. While `contended`,
    somebody else wants to append next. `stale` is what loads answer with instead of what is there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.lose_answers = 0
        self.reads = 0
        """How often entries were read."""
        self.contended = False
        self.stale: Stored | None = None
        self.stale_loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.loads = asyncio.Event()
        self.loads.set()
        self.attempted = asyncio.Event()
        self.written = asyncio.Event()
        """Set when an append was attempted, and when one is durable; for tests to clear."""

    def _ask(self) -> Store:
        if self.away:
            raise StoreUnavailable("switched off")
        return self._store

    async def load(self, document: str) -> Stored:
        await self.loads.wait()
        if self.stale is not None:
            self.stale_loads += 1
            return self.stale
        return await self._ask().load(document)

    async def read(self, document: str, after: int, limit: int) -> Sequence[Entry]:
        self.reads += 1
        return await self._ask().read(document, after, limit)

    async def append(self, batch: Sequence[Append]) -> Sequence[Appended | Conflict]:
        self.attempted.set()
        answers = await self._ask().append(batch)
        self.written.set()
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("written, and the answer lost")
        await self.gate.wait()
        if self.contended:
            return [each._replace(contended=True) if isinstance(each, Appended) else each for each in answers]
        return answers

    async def adopt(self, batch: Sequence[Adoption]) -> Sequence[Appended | Conflict]:
        return await self._ask().adopt(batch)

    async def heads(self, documents: Iterable[str]) -> dict[str, int]:
        return await self._ask().heads(documents)

    async def changes(self, since: int, limit: int) -> Changes:
        return await self._ask().changes(since, limit)

    async def snapshot(self, document: str, seq: int, state: bytes) -> None:
        await self._ask().snapshot(document, seq, state)

    async def compact(self, document: str, keep_after: int) -> int:
        return await self._ask().compact(document, keep_after)

    async def check(self) -> None:
        await self._ask().check()

    async def close(self) -> None:
        await self._store.close()


class Anyone:
    """An `Access` that may do everything."""

    subject = ""

    def can_read(self, document: str) -> bool:
        return True

    def can_write(self, document: str) -> bool:
        return True


class Node:
    """Rooms on a store that can be interrupted."""

    def __init__(self, store: Interruptible, rooms: Rooms) -> None:
        self.store = store
        self.rooms = rooms

    async def client(self, document: str = "d", *, author: str = "", can_write: bool = True) -> Client:
        """A client that has joined."""
        return await Client(self.rooms.open(document), author=author, can_write=can_write).join()

    async def pull(self, document: str = "d") -> Delta:
        """What a blank copy is given."""
        with self.rooms.answers.begin() as answer:
            return await self.rooms.open(document).pull(b"\x00", answer)

    async def log(self, document: str = "d") -> Sequence[Entry]:
        return await self.store.read(document, 0, 100_000)

    async def stored_text(self, document: str = "d") -> str:
        """The text that a fresh load gives."""
        stored = await self.store.load(document)
        states = [] if stored.snapshot is None else [stored.snapshot]
        return text_of(states + [entry.update for entry in stored.entries])


QUICK = RoomLimits(poll_interval=0.02)


@asynccontextmanager
async def node(folder: Path, limits: RoomLimits = QUICK, bus: Bus | None = None) -> AsyncIterator[Node]:
    """A node on the store in `folder`; several may share it."""
    store = Interruptible(await open_sqlite(folder / "store.sqlite"))
    rooms = Rooms(store, bus or LocalBus().connect(), limits)
    try:
        yield Node(store, rooms)
    finally:
        store.gate.set()
        await rooms.close()
        await store.close()
