from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.web import pace
from tests.server.web.kit import PATIENCE, running


async def test_a_body_that_only_trickles_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never stands still for as long as a silent client may."""
    monkeypatch.setattr(pace, "PACE_SECONDS", 0.5)
    async with running(tmp_path, "--open", "--handshake-seconds", "60") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /api/v1/sync HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/msgpack\r\n")
        writer.write(b"Content-Length: 1000000\r\n\r\n")
        answered = asyncio.ensure_future(reader.readline())
        async with asyncio.timeout(PATIENCE):
            while not answered.done():
                writer.write(b"x")
                await asyncio.wait([answered], timeout=0.05)
        assert answered.result().startswith(b"HTTP/1.1 408 ")
        writer.close()
