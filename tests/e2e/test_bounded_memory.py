"""Those who send much, read nothing or never end: bounded memory, and everyone else's work goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from socket import create_connection

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest

from sync.protocol.lib0 import write_var_bytes, write_var_string, write_var_uint
from tests.e2e.kit import ENVIRON, MIB, PATIENCE, YWS, memory, metrics, neighbour, push, transport_of, update_of
from tests.harness.server_process import ServerProcess


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own, for a test that looks at its memory."""
    with ServerProcess(tmp_path / "data", "--max-backlog-bytes", str(MIB)) as process:
        yield process


async def send_much(socket: aiohttp.ClientWebSocketResponse, frames: Callable[[], bytes], size: int) -> int:
    """Send up to `size` bytes and read nothing; how many the server took before it stopped reading."""
    sent = 0
    for number in count():
        if sent >= size:
            break
        frame = frames()
        try:
            async with asyncio.timeout(1.0):
                await socket.send_bytes(frame)
        except (TimeoutError, ConnectionError):
            break
        sent += len(frame)
        if number % 100 == 0:
            # Sending awaits nothing while the kernel takes all of it, and others have their part to send.
            await asyncio.sleep(0)
    return sent


async def test_who_sends_and_never_reads_is_bounded_and_nobody_else_notices(
    http: aiohttp.ClientSession, fresh: ServerProcess
) -> None:
    filling = update_of("x" * MIB)
    async with neighbour(http, fresh) as person:
        await push(http, fresh, [{"id": "1", "doc": "large", "update": filling}])
        before = memory(fresh)
        awareness = YWS.awareness("", b"\x01\x01\x01" + write_var_string('"' + "p" * 60_000 + '"'))

        def frames(kind: str) -> Callable[[], bytes]:
            clock = iter(range(1, 1 << 30))
            if kind == "joins from everywhere":
                return lambda: YWS.step1("", b"\x01" + write_var_uint(next(clock)) + b"\x01")
            if kind == "questions":
                return lambda: b"\x03"
            return lambda: YWS.update("", filling)

        mute = [await raw_socket(http, fresh, "large") for _ in range(3)]
        for socket in mute:
            # At once: who says nothing for a while is closed, and what follows keeps this process busy.
            await socket.send_bytes(awareness)
        work: list[Awaitable[int]] = [
            send_much(mute[0], frames("joins from everywhere"), 200_000),
            send_much(mute[1], frames("questions"), 200_000),
            send_much(mute[2], frames("duplicates"), 100 * MIB),
        ]
        sending = asyncio.gather(*work)
        for _ in range(5):
            await person.works()
        await sending
        await person.works()
        grown = memory(fresh) - before
        assert grown < 150 * MIB, f"{grown / MIB:.0f} MiB"
        for socket in mute:
            transport_of(socket).abort()


async def raw_socket(http: aiohttp.ClientSession, server: ServerProcess, document: str) -> aiohttp.ClientWebSocketResponse:
    """A WebSocket whose client takes nothing from the kernel after the handshake."""
    socket = await http.ws_connect(f"{server.url}/ws/{document}", max_msg_size=0, autoping=False)
    transport_of(socket).pause_reading()
    return socket


async def test_ten_thousand_rooms_opened_once_leave_no_trace_in_memory(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", "--max-rooms", "1000") as server:
        async with neighbour(http, server) as person:
            await open_rooms(http, server, "warm", 1000)
            before = memory(server)
            for turn in range(20):
                await open_rooms(http, server, f"{turn}", 500)
                await person.works()
            grown = memory(server) - before
            assert grown < 40 * MIB, f"{grown / MIB:.0f} MiB"
        lines = (await metrics(http, server)).splitlines()
        assert float(next(line for line in lines if line.startswith("ebbtide_rooms ")).split()[1]) <= 1000


async def open_rooms(http: aiohttp.ClientSession, server: ServerProcess, prefix: str, count: int) -> None:
    """Open documents once: half by asking for them, the rest over one socket that leaves each."""
    await push(http, server, [], pull={f"{prefix}-{index}": b"\x00" for index in range(count // 2)})
    async with http.ws_connect(f"{server.url}/collab") as socket:
        for index in range(count // 2, count):
            name = write_var_string(f"{prefix}-{index}")
            await socket.send_bytes(name + b"\x02\x00" + write_var_string(""))
            await socket.send_bytes(name + b"\x00\x00" + write_var_bytes(b"\x00"))
            while not (await socket.receive_bytes()).startswith(name + b"\x00\x01"):
                pass
            await socket.send_bytes(name + b"\x07")


async def test_pulls_that_nobody_reads_hold_little_memory(http: aiohttp.ClientSession, fresh: ServerProcess) -> None:
    loop = asyncio.get_running_loop()
    async with neighbour(http, fresh) as person:
        for number in range(4):
            await push(http, fresh, [{"id": str(number), "doc": "large", "update": update_of("x" * 2 * MIB)}])
        await push(http, fresh, [], pull={"large": b"\x00"})
        before = memory(fresh)
        bodies = [
            ("application/msgpack", msgpack.packb({"device": "d", "pull": {"large": b"\x00"}})),
            ("application/json", b'{"device": "d", "pull": {"large": "AA=="}}'),
        ]
        with ExitStack() as stack:
            for kind, body in bodies * 15:
                mute = stack.enter_context(create_connection(("127.0.0.1", fresh.port)))
                mute.setblocking(False)
                head = f"POST /api/v1/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
                await loop.sock_sendall(mute, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                async with asyncio.timeout(PATIENCE):
                    assert await loop.sock_recv(mute, 12) == b"HTTP/1.1 200"
            await person.works()
            grown = memory(fresh) - before
            assert grown < 60 * MIB, f"{grown / MIB:.0f} MiB"


@asynccontextmanager
async def half_sent(server: ServerProcess, size: int) -> AsyncIterator[asyncio.StreamReader]:
    """A push that stops after `size` of its bytes."""
    port = int(server.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/v1/sync HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/msgpack\r\n"
    writer.write(f"{head}Content-Length: {size + 1}\r\n\r\n".encode() + bytes(size))
    try:
        yield reader
    finally:
        writer.close()


async def test_pushes_that_never_end_keep_nobody_out_and_are_given_up(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    size = MIB - 1000
    edit: dict[str, object] = {"id": "1", "doc": "honest", "update": update_of("x" * 100_000)}
    with ServerProcess(tmp_path, "--max-push-bytes", "1MiB", "--handshake-seconds", "3") as node:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            before = memory(node)
            slow = [await stack.enter_async_context(half_sent(node, size)) for _ in range(40)]
            answers = [asyncio.ensure_future(reader.readline()) for reader in slow]
            await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert (await push(http, node, [edit]))["receipts"][0]["status"] == "applied"
            codes = Counter([(await answer).split()[1] for answer in answers])
            # Those that there was no room for beside the others, and those that stood still.
            assert set(codes) == {b"503", b"408"}
            assert codes[b"408"] <= 8
            assert memory(node) - before < 60 * MIB


async def test_who_was_granted_nothing_is_closed_whatever_he_says(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    arguments = ("--handshake-seconds", "1", "--max-update-bytes", "1MiB")
    with ServerProcess(tmp_path, *arguments, open_to_all=False, environ=ENVIRON) as node:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            edit = write_var_string("a") + b"\x00\x02" + write_var_bytes(bytes(MIB - 1000))
            for greeting in (b"\x09", edit, write_var_string("a") + b"\x02\x00" + write_var_string("no token")):
                socket = await stack.enter_async_context(http.ws_connect(f"{node.url}/collab"))
                await socket.send_bytes(greeting)
                while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
                assert socket.close_code == 4408, message
            before = memory(node)
            waiting = [await stack.enter_async_context(http.ws_connect(f"{node.url}/collab")) for _ in range(60)]
            for socket in waiting:
                await socket.send_bytes(edit)
            closed = {(await socket.receive()).data for socket in waiting}
            assert closed <= {4408, 1013}
            assert memory(node) - before < 40 * MIB
