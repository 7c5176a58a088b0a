"""Raw WebSockets against a real server: what RFC 6455 allows, what it forbids, and connections that just stop."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from crdt.coding import write_uint
from sync.protocol.frame import Opcode
from sync.protocol.yws import YWebSocket
from tests.e2e.kit import update_of
from tests.harness.server_process import ServerProcess

PATIENCE = 20.0
YWS = YWebSocket()
MASK = b"\x01\x02\x03\x04"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("open")) as process:
        yield process


def masked(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFF]) + size.to_bytes(8, "big")
    key = (MASK * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return bytes([(0x80 if final else 0) | opcode]) + length + MASK + body


class Wire:
    """A client's end of the TCP connection, behind the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE):
            first, size = await self.reader.readexactly(2)
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def until(self, payload: bytes) -> None:
        while (await self.frame())[1] != payload:
            pass

    async def close_code(self) -> int:
        """The code of the server's close frame; then the server ends the connection, once it is answered."""
        while True:
            opcode, payload = await self.frame()
            if opcode == Opcode.CLOSE:
                return int.from_bytes(payload[:2], "big")

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.reader.read(65536):
                pass


async def metrics(http: aiohttp.ClientSession, node: ServerProcess) -> str:
    async with http.get(f"{node.url}/metrics") as response:
        return await response.text()


@asynccontextmanager
async def wire(node: ServerProcess, document: str, *, early: bytes = b"", extra: str = "") -> AsyncIterator[Wire]:
    port = int(node.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws/{document} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n".encode()
        + early
    )
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        yield Wire(reader, writer)
    finally:
        writer.close()


async def test_fragments_pings_between_them_and_single_bytes_make_one_message(node: ServerProcess) -> None:
    async with wire(node, "pieces") as client:
        message = YWS.update("", update_of("hello" * 100))
        stream = (
            masked(Opcode.BINARY, message[:3], final=False)
            + masked(Opcode.PING, b"?")
            + masked(Opcode.CONTINUATION, message[3:200], final=False)
            + masked(Opcode.CONTINUATION, b"", final=False)
            + masked(Opcode.CONTINUATION, message[200:])
        )
        client.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")))
        for at in range(len(stream)):
            client.send(stream[at : at + 1])
            if at % 100 == 0:
                await asyncio.sleep(0)
        seen = []
        while message not in seen:
            seen.append((await client.frame())[1])
        assert b"?" in seen


async def test_an_offered_extension_is_declined_and_the_socket_works(node: ServerProcess) -> None:
    async with wire(node, "plain", extra="Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n") as client:
        message = YWS.update("", update_of())
        client.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")), masked(Opcode.BINARY, message))
        await client.until(message)


@pytest.mark.parametrize(
    "frames",
    [
        b"\x82\x01x",
        masked(Opcode.BINARY, b"x")[:1].replace(b"\x82", b"\xc2") + masked(Opcode.BINARY, b"x")[1:],
        masked(3, b"x"),
        masked(Opcode.CONTINUATION, b"x"),
        masked(Opcode.PING, b"x", final=False),
    ],
    ids=["unmasked", "reserved bit", "unknown opcode", "stray continuation", "split ping"],
)
async def test_what_is_no_websocket_frame_ends_with_1002(node: ServerProcess, frames: bytes) -> None:
    async with wire(node, "broken") as client:
        client.send(frames)
        assert await client.close_code() == 1002
        await client.ended()


async def test_a_close_is_answered_with_its_code_and_the_connection_ends(node: ServerProcess) -> None:
    async with wire(node, "leaving") as client:
        client.send(masked(Opcode.CLOSE, (1001).to_bytes(2, "big") + b"bye"))
        assert await client.close_code() == 1001
        await client.ended()


async def test_a_peer_that_does_not_answer_a_close_is_dropped(node: ServerProcess) -> None:
    async with wire(node, "stubborn") as client:
        client.send(masked(Opcode.TEXT, b"hello"))
        assert await client.close_code() == 4400
        await client.ended()


async def test_who_hangs_up_in_the_middle_of_a_frame_is_forgotten(node: ServerProcess) -> None:
    for _ in range(20):
        async with wire(node, "gone") as client:
            client.send(masked(Opcode.BINARY, YWS.update("", update_of("x" * 1000)))[:50])
            client.writer.write_eof()
            await client.ended()
    async with wire(node, "gone") as client:
        client.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")))
        await client.until(YWS.step2("", b"\x00\x00"))


async def test_bytes_sent_ahead_of_the_handshakes_answer_do_no_harm(node: ServerProcess) -> None:
    async with wire(node, "hasty", early=masked(Opcode.BINARY, YWS.step1("", b"\x00"))) as hasty:
        async with wire(node, "hasty") as patient:
            message = YWS.update("", update_of())
            patient.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")), masked(Opcode.BINARY, message))
            await patient.until(message)
        hasty.writer.close()


async def test_a_flood_of_pings_that_nobody_reads_is_held_back(node: ServerProcess) -> None:
    async with wire(node, "flood") as client:
        flood = masked(Opcode.PING, b"x" * 125) * 8000
        for _ in range(40):
            client.writer.write(flood)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await client.writer.drain()
        async with wire(node, "flood") as other:
            message = YWS.update("", update_of())
            other.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")), masked(Opcode.BINARY, message))
            await other.until(message)
        client.writer.transport.abort()


async def test_unfinished_messages_of_some_shut_nobody_out(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--max-update-bytes", "1MiB") as node:
        async with AsyncExitStack() as stack:
            for _ in range(20):
                holder = await stack.enter_async_context(wire(node, "held"))
                holder.send(masked(Opcode.BINARY, bytes(1 << 20), final=False))
            # There is room for sixteen. Those who began first make room for others of their kind, and for whoever comes.
            async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE):
                while 'ebbtide_sockets_closed_total{code="1013"} 4.0' not in await metrics(http, node):
                    await asyncio.sleep(0.05)
            message = YWS.update("", update_of("x" * 300_000))
            async with wire(node, "honest") as client:
                frame = masked(Opcode.BINARY, message)
                client.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")), frame[:100_000])
                await client.until(YWS.step2("", b"\x00\x00"))
                client.send(frame[100_000:])
                await client.until(message)


async def test_shared_types_nested_ninety_thousand_deep_can_be_deleted(node: ServerProcess) -> None:
    levels = 90_000
    parts = [write_uint(1), write_uint(levels), write_uint(1), write_uint(0), b"\x07\x01\x04root\x00"]
    parts += [b"\x07\x00\x01" + write_uint(level) + b"\x00" for level in range(levels - 1)]
    deep = b"".join((*parts, b"\x00"))
    deletion = b"\x00\x01\x01\x01\x00\x01"
    async with wire(node, "deep") as client:
        client.send(masked(Opcode.BINARY, YWS.step1("", b"\x00")))
        for update in (deep, deletion):
            client.send(masked(Opcode.BINARY, YWS.update("", update)))
            await client.until(YWS.update("", update))


@pytest.mark.parametrize("path", ["/ws/early", "/collab"])
async def test_clients_that_leave_during_the_handshake_are_no_failure_of_the_server(tmp_path: Path, path: str) -> None:
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    with ServerProcess(tmp_path, "--log-level", "debug") as node:
        # Stopped meanwhile, so that it sees the ends of all of them before it answers any.
        node.signal(signal.SIGSTOP)
        for number in range(20):
            with socket.create_connection(("127.0.0.1", node.port)) as client:
                if number % 2:
                    # Ends with a RST in place of a FIN.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(handshake)
        node.signal(signal.SIGCONT)
        async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE):
            counted = {"opened": 0.0, "failed": 0.0}
            while sum(counted.values()) + node.errors.count("left during the handshake") < 20:
                await asyncio.sleep(0.02)
                said = await metrics(http, node)
                found = re.findall(r"^ebbtide_(?:sockets|requests)_(opened|failed)_total (\S+)$", said, re.M)
                counted = {name: float(value) for name, value in found}
        assert "left during the handshake" in node.errors
        assert counted["failed"] == 0
        assert "Traceback" not in node.errors
