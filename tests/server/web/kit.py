"""The server in the test's own process, so that a test can look into it and hold parts of it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from server.app import close_app, make_app
from server.config import parse
from server.web.runner import Runner

PATIENCE = 30.0
"""Seconds after which something that does not come counts as failed."""


class Running:
    """The application, and where it listens."""

    def __init__(self, app: web.Application, site: web.TCPSite, port: int, http: aiohttp.ClientSession) -> None:
        self.app = app
        self.site = site
        self.port = port
        self.http = http
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def running(
    folder: Path,
    *flags: str,
    environ: dict[str, str] | None = None,
    prepare: Callable[[web.Application], None] | None = None,
) -> AsyncIterator[Running]:
    """`ebbtide serve` with these flags, but for signals. `prepare` is given the application before it serves."""
    app = await make_app(parse(["--data", str(folder), *flags], environ or {}))
    if prepare is not None:
        prepare(app)
    runner = Runner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Running(app, site, runner.addresses[0][1], http)
    finally:
        await runner.cleanup()
        await close_app(app)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
