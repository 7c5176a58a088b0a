"""What the suites with real servers share: a neighbour who works on, a push, and what a socket and a server are at."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pycrdt

from sync.protocol.yws import YWebSocket
from tests.harness.server_process import ServerProcess

MIB = 1 << 20
SECRET = "a secret that is only ever used by these tests"
PATIENCE = 30.0
ENVIRON = {"EBBTIDE_TOKEN_SECRET": SECRET}
YWS = YWebSocket()
BLANK_STEP_1 = YWS.step1("", b"\x00")


class Neighbour:
    """Somebody who works on all the while: `works` writes an edit and returns when it is durable."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._text = self._doc.get("text", type=pycrdt.Text)

    async def works(self) -> None:
        before = self._doc.get_state()
        self._text += "x"
        update = self._doc.get_update(before)
        await self._socket.send_bytes(YWS.update("", update))
        echo = YWS.update("", update)
        async with asyncio.timeout(PATIENCE):
            while await self._socket.receive_bytes() != echo:
                pass


@asynccontextmanager
async def neighbour(http: aiohttp.ClientSession, server: ServerProcess) -> AsyncIterator[Neighbour]:
    async with http.ws_connect(f"{server.url}/ws/neighbour") as socket:
        person = Neighbour(socket)
        await person.works()
        yield person
        await person.works()


async def end_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
    """The close code and reason, whatever comes before it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data), str(message.extra)
            assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PING), message


def memory(server: ServerProcess) -> int:
    """The resident memory of the server, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def transport_of(socket: aiohttp.ClientWebSocketResponse) -> asyncio.Transport:
    connection = socket._response.connection
    assert connection is not None
    assert isinstance(connection.transport, asyncio.Transport)
    return connection.transport


def update_of(text: str = "x") -> bytes:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    body = doc.get("text", type=pycrdt.Text)
    body += text
    return doc.get_update()


async def push(
    http: aiohttp.ClientSession,
    server: ServerProcess,
    entries: list[dict[str, object]],
    *,
    pull: dict[str, bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    body = msgpack.packb({"device": "test", "entries": entries, "pull": pull or {}})
    headers = {"Content-Type": "application/msgpack"} | (headers or {})
    async with http.post(f"{server.url}/api/v1/sync", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == 200, await response.text()
        return msgpack.unpackb(await response.read())
