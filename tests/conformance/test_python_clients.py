"""Other Python implementations of the format against a running server: y-py, and pycrdt-websocket's client.

Where y-py takes part, everybody else's Yjs client ids have 32 bits, as those of Yjs do and those that pycrdt chooses do
not: y-py 0.6 cuts longer ones off, and hands their content on under the shorter id, as if it were new.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import y_py
from httpx_ws import AsyncWebSocketSession, aconnect_ws
from pycrdt import Array, Decoder, Doc, Map, Provider, Text, write_message
from pycrdt.websocket.websocket import HttpxWebsocket

from tests.harness.server_process import ServerProcess

DEADLINE = 10.0
SYNC = 0
STEP1, STEP2, UPDATE = range(3)

Content = dict[str, Any]


class Replica:
    """A document of either implementation; `content` makes the two comparable."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    @property
    def content(self) -> Content:
        raise NotImplementedError

    def edit(self, who: str) -> None:
        """Text with formatting and a deletion, a map and an array, all under the name `who`."""
        raise NotImplementedError

    def tell(self, *_: object) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[Content], bool]) -> None:
        """Wait until the content is like that. Raises TimeoutError after `DEADLINE` seconds."""
        async with asyncio.timeout(DEADLINE):
            while not condition(self.content):
                self._changed.clear()
                await self._changed.wait()


class PycrdtReplica(Replica):
    """Synchronised by pycrdt's own provider over pycrdt-websocket's channel."""

    def __init__(self, client_id: int | None = None) -> None:
        super().__init__()
        self.doc: Doc[Any] = Doc(client_id=client_id)
        self.text = self.doc.get("text", type=Text)
        self.map = self.doc.get("map", type=Map)
        self.array = self.doc.get("array", type=Array)
        self._subscription = self.doc.observe(self.tell)

    @property
    def content(self) -> Content:
        return {"text": str(self.text), "map": self.map.to_py(), "array": self.array.to_py()}

    @property
    def bold(self) -> list[str]:
        return [chunk for chunk, attributes in self.text.diff() if attributes == {"bold": True}]

    def edit(self, who: str) -> None:
        with self.doc.transaction():
            self.text.insert(0, f"bold {who} gone 漢字🦉; ")
            self.text.format(0, 4, {"bold": True})
            del self.text[5 + len(who) : 10 + len(who)]
            self.map[who] = Map({"tags": Array(["a", {"deep": [1, 2.5]}])})
            self.map["contested"] = who
            self.array.extend([who, "gone", True])
        del self.array[list(self.array).index("gone")]

    @contextlib.asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[None]:
        async with (
            httpx.AsyncClient() as client,
            aconnect_ws(url, client, session_class=AsyncWebSocketSession) as socket,
            Provider(self.doc, HttpxWebsocket(socket, url)) as provider,
        ):
            async with asyncio.timeout(DEADLINE):
                await provider.synced.wait()
            yield


class YPyReplica(Replica):
    """y-py has no provider of its own, so this is the y-websocket protocol by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.doc = y_py.YDoc()
        self.text = self.doc.get_text("text")
        self.map = self.doc.get_map("map")
        self.array = self.doc.get_array("array")
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()

    @property
    def content(self) -> Content:
        return {
            "text": str(self.text),
            "map": json.loads(self.map.to_json()),
            "array": json.loads(self.array.to_json()),
        }

    def edit(self, who: str) -> None:
        before = y_py.encode_state_vector(self.doc)
        self.doc.transact(lambda transaction: self._edit(transaction, who))
        gone = self.content["array"].index("gone")
        self.doc.transact(lambda transaction: self.array.delete(transaction, gone))
        self._send(UPDATE, y_py.encode_state_as_update(self.doc, before))

    def _edit(self, transaction: y_py.YTransaction, who: str) -> None:
        self.text.insert(transaction, 0, f"bold {who} gone 漢字🦉; ")
        self.text.format(transaction, 0, 4, {"bold": True})
        self.text.delete_range(transaction, 5 + len(who), 5)
        self.map.set(transaction, who, {"tags": ["a", {"deep": [1, 2.5]}]})
        self.map.set(transaction, "contested", who)
        self.array.extend(transaction, [who, "gone", True])

    @contextlib.asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket, asyncio.TaskGroup() as tasks:
            self._outgoing = asyncio.Queue()
            self._send(STEP1, y_py.encode_state_vector(self.doc))
            synced = asyncio.Event()
            pumps = [tasks.create_task(self._read(socket, synced)), tasks.create_task(self._write(socket))]
            async with asyncio.timeout(DEADLINE):
                await synced.wait()
            yield
            for pump in pumps:
                pump.cancel()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, synced: asyncio.Event) -> None:
        async for message in socket:
            kind, subtype = message.data[0], message.data[1]
            if kind != SYNC:
                continue
            payload = Decoder(message.data[2:]).read_message() or b""
            if subtype == STEP1:
                self._send(STEP2, y_py.encode_state_as_update(self.doc, payload))
            else:
                y_py.apply_update(self.doc, payload)
                self.tell()
            if subtype == STEP2:
                synced.set()

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_bytes(await self._outgoing.get())

    def _send(self, subtype: int, payload: bytes) -> None:
        self._outgoing.put_nowait(bytes([SYNC, subtype]) + write_message(payload))


def _document() -> str:
    return f"/ws/{uuid4()}"


async def _agree(*replicas: Replica, edits: int) -> None:
    """Wait until each holds `edits` edits, then compare them all."""
    for replica in replicas:
        await replica.until(lambda content: len(content["map"]) == edits + 1 and len(content["array"]) == 2 * edits)
    for replica in replicas[1:]:
        await replica.until(lambda content: content == replicas[0].content)


async def test_pycrdt_websocket_clients_meet(server: ServerProcess) -> None:
    url = server.url + _document()
    alice, bob = PycrdtReplica(), PycrdtReplica()
    alice.edit("before")
    async with alice.connected(url), bob.connected(url):
        await _agree(alice, bob, edits=1)
        alice.edit("Alice")
        bob.edit("Bob")
        await _agree(alice, bob, edits=3)
    late = PycrdtReplica()
    async with late.connected(url):
        await _agree(alice, bob, late, edits=3)
    assert late.bold == ["bold"] * 3


async def test_y_py_merges_with_pycrdt_offline_and_live(server: ServerProcess) -> None:
    path = _document()
    old, new = YPyReplica(), PycrdtReplica(client_id=random.getrandbits(32))
    old.edit("y-py offline")
    new.edit("pycrdt offline")
    async with old.connected(server.ws_url + path), new.connected(server.url + path):
        await _agree(old, new, edits=2)
        old.edit("y-py live")
        new.edit("pycrdt live")
        await _agree(old, new, edits=4)
    late = YPyReplica()
    async with late.connected(server.ws_url + path):
        await _agree(old, new, late, edits=4)
    assert new.bold == ["bold"] * 4
    assert "gone" not in late.content["text"]


async def test_edits_made_while_the_server_was_away_arrive_after_its_return(server: ServerProcess) -> None:
    path = _document()
    old, new = YPyReplica(), PycrdtReplica(client_id=random.getrandbits(32))
    async with old.connected(server.ws_url + path), new.connected(server.url + path):
        old.edit("y-py")
        await _agree(old, new, edits=1)
    server.kill()
    old.edit("y-py meanwhile")
    new.edit("pycrdt meanwhile")
    server.start()
    async with old.connected(server.ws_url + path), new.connected(server.url + path):
        await _agree(old, new, edits=3)
