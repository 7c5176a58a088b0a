"""`/healthz`, `/readyz` and `/metrics`: what an operator's machines ask."""

from __future__ import annotations

import asyncio

from aiohttp import web

from server.metrics import CONTENT_TYPE, exposition
from server.web.context import ROOMS, SOCKETS, STORE
from sync.rooms.errors import ShuttingDown, StoreUnavailable

CHECK_SECONDS = 2.0
"""How long `/readyz` waits for the store."""


async def healthz(_: web.Request) -> web.Response:
    """The process is alive: its event loop turns. A restart is due when this fails, and only then."""
    return web.json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """Work is welcome here. Raises `ShuttingDown` or `StoreUnavailable` when it had better go elsewhere."""
    if request.app[SOCKETS].draining:
        raise ShuttingDown("this node is shutting down")
    try:
        await asyncio.wait_for(request.app[STORE].check(), CHECK_SECONDS)
    except TimeoutError:
        raise StoreUnavailable(f"the store did not answer within {CHECK_SECONDS:g} seconds") from None
    return web.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    """What Prometheus scrapes."""
    body = exposition(request.app[ROOMS], request.app[SOCKETS])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
