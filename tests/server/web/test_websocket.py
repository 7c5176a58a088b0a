"""A socket whose peer is slow, silent, or does not stop: kept while it keeps pace, and dropped when it does not."""

from __future__ import annotations

import asyncio
import base64
import os
import socket as sockets_of
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pycrdt
import pytest

from server.web.context import ROOMS, SOCKETS
from server.web.pace import PACE_BYTES, PACE_SECONDS
from server.web.uptake import uptake
from server.web.websocket import WebSocket
from sync.protocol.frame import Opcode
from sync.protocol.yws import YWebSocket
from tests.e2e.test_websocket import masked
from tests.server.web.kit import PATIENCE, Running, running, until

MIB = 1 << 20
YWS = YWebSocket()
STEP_1 = masked(Opcode.BINARY, YWS.step1("", b"\x00"))


class Clock:
    """The loop, whose time a test can put forward for one socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ahead = 0.0
        self.asked = 0
        """How often the socket asked for the time."""
        self._loop = loop
        self.create_task = loop.create_task
        self.call_later = loop.call_later

    def time(self) -> float:
        self.asked += 1
        return self._loop.time() + self.ahead


class Peer:
    """A client that takes exactly what the test says, and the server's end of its connection."""

    def __init__(self, wire: sockets_of.socket, end: WebSocket) -> None:
        self._wire = wire
        self.end = end
        self.clock = Clock(asyncio.get_running_loop())
        end._loop = self.clock  # type: ignore[assignment]

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._wire, data)

    async def take(self, size: int) -> None:
        """Read so many bytes, and return when the server's kernel knows of it."""
        loop, before = asyncio.get_running_loop(), uptake(self.end._transport).taken
        async with asyncio.timeout(PATIENCE):
            left = size
            while left > 0:
                left -= len(await loop.sock_recv(self._wire, left))
        # What the client's kernel had taken already counted before.
        await until(lambda: uptake(self.end._transport).taken - before >= size - 256 * 1024)

    async def holds(self, size: int) -> None:
        """Return when the server has at least so many bytes of an unfinished message."""
        await until(lambda: self.end._reader.held >= size)

    async def stalls(self) -> None:
        """Return when nothing more fits the client's kernel."""
        last, same = -1, 0
        while same < 10:
            await asyncio.sleep(0.02)
            taken = uptake(self.end._transport).taken
            last, same = taken, same + 1 if taken == last else 0


@asynccontextmanager
async def connected(server: Running, document: str) -> AsyncIterator[Peer]:
    known = [*server.app[SOCKETS]]
    loop = asyncio.get_running_loop()
    with sockets_of.socket() as wire:
        wire.setsockopt(sockets_of.SOL_SOCKET, sockets_of.SO_RCVBUF, 32 << 10)
        wire.setblocking(False)
        await loop.sock_connect(wire, ("127.0.0.1", server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        await loop.sock_sendall(
            wire,
            f"GET /ws/{document} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await loop.sock_recv(wire, 1)
        (end,) = [each for each in server.app[SOCKETS] if each not in known]
        assert isinstance(end, WebSocket)
        yield Peer(wire, end)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, "--open", "--max-backlog-bytes", "1MiB", "--max-pending-bytes", "1MiB") as server:
        yield server


def update_of(size: int) -> bytes:
    doc: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    doc["text"] = pycrdt.Text("x" * size)
    return doc.get_update()


async def fill(server: Running, document: str, size: int) -> None:
    outcomes, _ = await server.app[ROOMS].open(document).push([update_of(size)], "", "", [None])
    assert len(outcomes) == 1


async def test_a_slow_reader_is_there_as_long_as_it_keeps_pace(server: Running) -> None:
    await fill(server, "large", 7 * MIB)
    async with connected(server, "large") as peer:
        await peer.send(STEP_1)
        await peer.stalls()
        assert peer.end.ping(), "it has said something"
        for _ in range(5):
            await peer.take(PACE_BYTES + 256 * 1024)
            assert peer.end.ping()
        await peer.stalls()
        peer.end.ping()
        assert not peer.end.ping(), "it took nothing"


async def test_an_idle_peer_that_answers_no_ping_is_gone_however_well_its_kernel_is(server: Running) -> None:
    async with connected(server, "small") as peer:
        await peer.send(STEP_1)
        await until(lambda: len(server.app[ROOMS].open("small").audience) == 1 and uptake(peer.end._transport).taken > 0)
        await until(lambda: peer.end._heard)
        assert peer.end.ping()
        await until(lambda: uptake(peer.end._transport).waiting == 0)
        assert not peer.end.ping()
        await peer.send(masked(Opcode.PONG))
        await until(lambda: peer.end._heard)
        assert peer.end.ping()


async def test_who_asks_for_more_than_it_reads_is_dropped_unless_it_keeps_pace(server: Running) -> None:
    await fill(server, "large", 7 * MIB)
    await fill(server, "large", 7 * MIB)
    async with connected(server, "large") as peer:
        await peer.send(STEP_1)
        await until(lambda: peer.end.backlog() > 4 * MIB)
        await peer.send(masked(Opcode.PING))
        await until(lambda: not peer.end._transport.is_reading())
        for _ in range(4):
            peer.clock.ahead += PACE_SECONDS - 1
            await peer.take(PACE_BYTES + 256 * 1024)
            looks = peer.clock.asked + 2
            await until(lambda: peer.clock.asked >= looks or peer.end._closing)  # noqa: B023 - awaited here
            assert not peer.end._closing

        def dropped() -> bool:
            peer.clock.ahead += PACE_SECONDS / 10
            return not len(server.app[SOCKETS])

        await until(dropped)


async def test_a_message_that_comes_too_slowly_ends_its_socket(server: Running) -> None:
    message = masked(Opcode.BINARY, YWS.update("", update_of(MIB)))
    async with connected(server, "slow") as peer:
        await peer.send(STEP_1)
        begin = 10_000
        await peer.send(message[:begin])
        await peer.holds(begin - 100)
        assert peer.end.ping()
        for sent in range(begin, begin + 4 * PACE_BYTES, PACE_BYTES):
            await peer.send(message[sent : sent + PACE_BYTES])
            await peer.holds(sent + PACE_BYTES - 100)
            assert peer.end.ping()
            assert not peer.end._closing
        await peer.send(message[begin + 4 * PACE_BYTES :][:100])
        await peer.holds(begin + 4 * PACE_BYTES)
        peer.end.ping()
        assert peer.end._closing


async def test_messages_that_follow_each_other_are_not_taken_for_one_that_is_slow(server: Running) -> None:
    message = masked(Opcode.BINARY, YWS.update("", update_of(1000)))
    async with connected(server, "steady") as peer:
        await peer.send(STEP_1 + message[:500])
        for _ in range(4):
            await peer.holds(400)
            assert peer.end.ping()
            assert not peer.end._closing
            await peer.send(message[500:])
            await until(lambda: peer.end._reader.held == 0)
            await peer.send(message[:500])


async def test_a_connection_that_broke_a_moment_ago_can_be_asked(server: Running) -> None:
    """Its end is told in the loop's next turn, and what asks all sockets may not stumble over it."""
    async with connected(server, "broken") as peer:
        peer.end._transport.abort()
        assert peer.end.ping()
        await until(lambda: not len(server.app[SOCKETS]))
