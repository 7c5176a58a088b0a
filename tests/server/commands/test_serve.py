"""What a server does when its store cannot keep up or it is asked to stop, and what it runs on."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from server.commands import serve
from server.config import parse
from server.web.context import BUS, ROOMS, SOCKETS
from server.web.websocket import WebSocket
from sync.protocol.yws import YWebSocket
from tests.server.web.kit import PATIENCE, Running, running, until
from tests.sync.rooms.kit import edits, text_of

YWS = YWebSocket()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, "--open", "--max-pending-bytes", "20KiB") as server:
        yield server


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another process's transaction, which no commit of the server's gets past."""
    connection = sqlite3.connect(folder / "ebbtide.sqlite", isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


async def joined(server: Running) -> aiohttp.ClientWebSocketResponse:
    socket = await server.http.ws_connect(f"{server.url}/ws/d")
    await socket.send_bytes(YWS.step1("", b"\x00"))
    async with asyncio.timeout(PATIENCE):
        while (await socket.receive_bytes())[:2] != b"\x00\x01":
            pass
    return socket


async def acknowledged(socket: aiohttp.ClientWebSocketResponse, *updates: bytes) -> None:
    left = {YWS.update("", update) for update in updates}
    async with asyncio.timeout(PATIENCE):
        while left:
            left.discard(await socket.receive_bytes())


async def stored(server: Running) -> str:
    return text_of([entry.update for entry in await server.app[ROOMS].store.read("d", 0, 1000)])


async def test_a_stop_waits_until_what_was_applied_is_durable(
    server: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    (update,) = edits("kept")
    socket = await joined(server)
    room = server.app[ROOMS].open("d")
    with locked(tmp_path):
        await socket.send_bytes(YWS.update("", update))
        await until(lambda: room.journal.applied)
        stopping = asyncio.create_task(serve._drain(server.app, server.site, PATIENCE))
        await until(lambda: socket.closed or not len(server.app[SOCKETS]))
        await asyncio.wait([stopping], timeout=0.5)
        assert not stopping.done(), "stopped with an edit that is not durable"
        assert "stopped" not in caplog.text
    async with asyncio.timeout(PATIENCE):
        await stopping
    assert "stopped, everything is durable" in caplog.text
    assert room.journal.idle
    assert await stored(server) == "kept"


async def test_a_stop_does_not_wait_for_what_does_not_close(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    never = asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(serve, "CLOSE_SECONDS", 0.1)
        patch.setattr(server.app[BUS], "close", never.wait)
        async with asyncio.timeout(PATIENCE):
            await serve._close(server.app)
    assert "ended before everything was closed" in caplog.text


async def test_a_stop_that_ran_out_of_time_says_so(server: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    (update,) = edits("late")
    socket = await joined(server)
    room = server.app[ROOMS].open("d")
    with locked(tmp_path):
        await socket.send_bytes(YWS.update("", update))
        await until(lambda: room.journal.applied)
        await serve._drain(server.app, server.site, 0.1)
    assert "stopped with edits that are not durable" in caplog.text
    assert "everything is durable" not in caplog.text


async def test_nobody_is_read_from_while_too_much_waits_for_the_store(server: Running, tmp_path: Path) -> None:
    updates = edits(*["x" * 1000] * 60)
    socket, other = await joined(server), await joined(server)
    ends = [end for end in server.app[SOCKETS] if isinstance(end, WebSocket)]
    assert len(ends) == 2
    pending = server.app[ROOMS].pending
    with locked(tmp_path):
        for update in updates:
            await socket.send_bytes(YWS.update("", update))
        await until(lambda: pending.full)
        held = pending.held
        assert held <= pending.limit + len(updates[-1]), "the edit that fills the node is the last that it takes"
        for update in updates:
            await other.send_bytes(YWS.update("", update))
        await until(lambda: not any(end._transport.is_reading() for end in ends))
        assert pending.held == held
    await acknowledged(socket, *updates)
    await acknowledged(other, *updates)
    # What one sent reaches the other with the same bytes as an acknowledgement, so there may be something left to take in.
    await until(lambda: not pending.held and all(end._transport.is_reading() for end in ends))
    assert await stored(server) == "x" * 60_000
    await socket.close()
    await other.close()


def test_the_server_runs_on_uvloop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loops: list[str] = []

    async def note(*_: object) -> int:
        loops.append(type(asyncio.get_running_loop()).__module__)
        return 7

    monkeypatch.setattr(serve, "serve", note)
    assert serve._run(parse(["--open", "--data", str(tmp_path)], {})) == 7
    assert loops == ["uvloop"]
