"""Answers that clients take slowly, not at all, or only in part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from server.metrics import Counters
from server.web import sending
from server.web.context import COUNTERS
from server.web.problem import middleware
from server.web.runner import Runner

PATIENCE = 20.0
PIECE = bytes(64 << 10)
MANY = 1000
"""Pieces that no buffers of a kernel hold."""


class Sent:
    """One answer: how much of it was asked for, and whether it is over."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.asked = 0
        self.over = asyncio.Event()

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.pieces):
            self.asked += 1
            yield PIECE

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await sending.send(request, iter(self), "text/plain")
        finally:
            self.over.set()


@asynccontextmanager
async def asked(sent: Sent) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which the answer was asked for."""
    counters = Counters()
    app = web.Application(middlewares=[middleware(counters)])
    app[COUNTERS] = counters
    app.router.add_get("/", sent.handle)
    runner = Runner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
        assert counters.requests_failed == 0
    finally:
        writer.transport.abort()
        await runner.cleanup()


@pytest.mark.parametrize("pieces", [0, 1, 2, MANY])
async def test_an_answer_arrives_whole(pieces: int) -> None:
    sent = Sent(pieces)
    async with asked(sent) as (reader, _):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body.count(0) == pieces * len(PIECE)
        assert b"Content-Length" in head or body.endswith(b"0\r\n\r\n")
        assert (b"Content-Length" in head) == (pieces < 2)


async def test_who_does_not_read_is_dropped_and_the_rest_is_not_even_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "UNREAD_SECONDS", 0.3)
    sent = Sent(MANY)
    with caplog.at_level(logging.INFO):
        async with asked(sent) as (reader, _):
            await sent.over.wait()
            assert sent.asked < MANY
            assert not (await reader.read()).endswith(b"0\r\n\r\n"), "the connection ends before the answer does"
    assert [record.message for record in caplog.records if record.name.startswith("server.")] == ["answer dropped"]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_who_goes_in_the_middle_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    sent = Sent(MANY)
    async with asked(sent) as (reader, writer):
        await reader.readexactly(len(PIECE))
        writer.transport.abort()
        await sent.over.wait()
    assert sent.asked < MANY
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
