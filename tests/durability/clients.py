"""Writers that note what the server acknowledged, one kind for each way in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pycrdt

from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_bytes, write_var_string
from sync.protocol.messages import SyncStep1, SyncStep2, SyncUpdate
from sync.protocol.yws import YWebSocket

MSGPACK = {"Content-Type": "application/msgpack"}
YWS = YWebSocket()
IN_FLIGHT = 8
"""Edits that a writer sends ahead of their acknowledgements."""


class Author:
    """A replica that writes marks `name:number` into a map, so that each can be looked for on its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self.marks = self.doc.get("marks", type=pycrdt.Map)
        self.count = 0

    def edit(self) -> tuple[str, bytes]:
        before = self.doc.get_state()
        mark = f"{self.name}:{self.count}"
        self.count += 1
        self.marks[mark] = 1
        return mark, self.doc.get_update(before)


class Ledger:
    """The marks that were acknowledged, by document."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, set[str]] = {}
        self.close_codes: list[int | None] = []
        self.total = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    def note(self, document: str, mark: str) -> None:
        self.acknowledged.setdefault(document, set()).add(mark)
        self.total += 1
        for total, event in self._waiting:
            if self.total >= total:
                event.set()

    async def reach(self, total: int) -> None:
        """Return when so many marks were acknowledged in all."""
        event = asyncio.Event()
        if self.total < total:
            self._waiting.append((total, event))
            await event.wait()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        yield socket


async def write_live(url: str, document: str, name: str, ledger: Ledger) -> None:
    """Write over y-websocket until the server goes: an edit is acknowledged when it comes back."""
    author = Author(name)
    sent: dict[bytes, str] = {}
    async with connected(f"{url}/ws/{document}") as socket:
        for _ in range(IN_FLIGHT):
            await _send_live(socket, author, sent)
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                break
            heard = YWS.decode(message.data, document)
            if isinstance(heard, SyncUpdate) and heard.update in sent:
                ledger.note(document, sent.pop(heard.update))
                await _send_live(socket, author, sent)
        ledger.close_codes.append(socket.close_code)


async def _send_live(socket: aiohttp.ClientWebSocketResponse, author: Author, sent: dict[bytes, str]) -> None:
    mark, update = author.edit()
    sent[update] = mark
    with suppress(ConnectionError):  # who reads to the end learns why
        await socket.send_bytes(YWS.update("", update))


async def write_collab(url: str, document: str, name: str, ledger: Ledger) -> None:
    """Write over the Hocuspocus protocol until the server goes: one SyncStatus an edit, in order."""
    dialect, author = Hocuspocus(), Author(name)
    status = dialect.acknowledged(document, b"")
    sent: list[str] = []
    async with connected(f"{url}/collab") as socket:
        await socket.send_bytes(write_var_string(document) + b"\x02\x00" + write_var_string(""))
        for _ in range(IN_FLIGHT):
            await _send_collab(socket, dialect, document, author, sent)
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                break
            if message.data == status:
                ledger.note(document, sent.pop(0))
                await _send_collab(socket, dialect, document, author, sent)
        ledger.close_codes.append(socket.close_code)


async def _send_collab(
    socket: aiohttp.ClientWebSocketResponse, dialect: Hocuspocus, document: str, author: Author, sent: list[str]
) -> None:
    mark, update = author.edit()
    sent.append(mark)
    with suppress(ConnectionError):
        await socket.send_bytes(dialect.update(document, update))


async def write_queue(url: str, documents: list[str], name: str, ledger: Ledger) -> None:
    """Push batches over HTTP until the server goes: a receipt an entry."""
    authors = {document: Author(f"{name}@{document}") for document in documents}
    async with aiohttp.ClientSession() as session:
        while True:
            edits = [(document, *author.edit()) for document, author in authors.items() for _ in range(5)]
            entries = [{"id": mark, "doc": document, "update": update} for document, mark, update in edits]
            body = msgpack.packb({"device": name, "entries": entries})
            async with session.post(f"{url}/api/v1/sync", data=body, headers=MSGPACK) as response:
                if response.status != 200:
                    return
                receipts = msgpack.unpackb(await response.read())["receipts"]
            assert [receipt["id"] for receipt in receipts] == [mark for _, mark, _ in edits]
            for (document, mark, _), receipt in zip(edits, receipts, strict=True):
                assert receipt["status"] == "applied", receipt
                ledger.note(document, mark)


async def marks(url: str, document: str) -> set[str]:
    """The marks that somebody sees who joins with nothing."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    async with connected(f"{url}/ws/{document}") as socket:
        await socket.send_bytes(b"\x00\x00" + write_var_bytes(b"\x00"))
        async for message in socket:
            heard = YWS.decode(message.data, document)
            if isinstance(heard, SyncStep2):
                doc.apply_update(heard.update)
                break
            assert isinstance(heard, SyncStep1)
    return set(doc.get("marks", type=pycrdt.Map).keys())
