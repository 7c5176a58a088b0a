"""What the suites with real servers share: a neighbour who works on, a push, and what a socket and a server are at."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgpack  # type: ignore[import-untyped]
import pycrdt

from sync.protocol.yws import YWebSocket
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

MIB = 1 << 20
SECRET = "a secret that is only ever used by these tests"
PATIENCE = 30.0
ENVIRON = {"EBBTIDE_TOKEN_SECRET": SECRET}
YWS = YWebSocket()
BLANK_STEP_1 = YWS.step1("", b"\x00")


def token(subject: str = "ada", key: str = SECRET, **claims: Any) -> str:
    """A token that is good for ten minutes and every document, unless its claims say otherwise."""
    now = time.time()
    return jwt.encode({"sub": subject, "iat": now, "exp": now + 600, "documents": {"*": "editor"}} | claims, key, "HS256")


@contextmanager
def two_nodes(folder: Path, redis: RedisServer, *flags: str) -> Iterator[list[ServerProcess]]:
    """Nodes that want tokens, with folders of their own: nothing but Redis is between them."""
    arguments: dict[str, Any] = {"open_to_all": False, "environ": ENVIRON}
    with (
        ServerProcess(folder / "one", "--bus", redis.url, *flags, **arguments) as one,
        ServerProcess(folder / "two", "--bus", redis.url, *flags, **arguments) as two,
    ):
        yield [one, two]


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


async def metrics(http: aiohttp.ClientSession, node: ServerProcess) -> str:
    async with http.get(f"{node.url}/metrics") as response:
        return await response.text()


async def shared(http: aiohttp.ClientSession, node: ServerProcess, value: int) -> None:
    """Return when the node says that it shares revocations with others (1), or that it does not (0)."""
    async with asyncio.timeout(PATIENCE):
        while f"ebbtide_revocations_shared {value}.0" not in await metrics(http, node):
            await asyncio.sleep(0.02)
