from __future__ import annotations

import asyncio
import time

from tests.harness.proxy import Mode, Proxy

SLOW_SECONDS = 0.1


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


async def test_what_is_slow_arrives_whole_and_not_before_its_time() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        with Proxy(server.sockets[0].getsockname()[1], slow_seconds=SLOW_SECONDS) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"first")
            assert await reader.readexactly(5) == b"first"
            proxy.set(Mode.SLOW)
            before = time.monotonic()
            for piece in (b"one ", b"two ", b"three"):
                writer.write(piece)
                await asyncio.sleep(0)
            assert await reader.readexactly(13) == b"one two three"
            assert time.monotonic() - before >= 2 * SLOW_SECONDS
            proxy.set(Mode.PASS)
            writer.write(b"last")
            assert await reader.readexactly(4) == b"last"
            writer.close()
