"""What aiohttp is told about requests before any handler sees them."""

from __future__ import annotations

import gzip

import aiohttp
from aiohttp import web

from server.metrics import Counters
from server.web.context import COUNTERS
from server.web.runner import Runner


async def test_a_body_is_never_inflated() -> None:
    async def measure(request: web.Request) -> web.Response:
        return web.json_response(len(await request.read()))

    app = web.Application()
    app[COUNTERS] = Counters()
    app.router.add_post("/", measure)
    runner = Runner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    body = gzip.compress(bytes(1 << 20))
    try:
        address, port = runner.addresses[0][:2]
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"http://{address}:{port}/", data=body, headers={"Content-Encoding": "gzip"}) as response,
        ):
            assert await response.json() == len(body)
    finally:
        await runner.cleanup()
