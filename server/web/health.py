"""`/healthz`, `/readyz` and `/metrics`: what an operator's machines ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from server.metrics import CONTENT_TYPE, Metrics
from server.workers.gathering import Gathering
from sync.rooms.errors import ShuttingDown, StoreUnavailable

CHECK_SECONDS = 2.0
"""How long `/readyz` waits for the store."""


def routes(
    check: Callable[[], Awaitable[None]],
    draining: Callable[[], bool],
    metrics: Metrics,
    gathering: Gathering | None = None,
) -> list[web.RouteDef]:
    """The three resources.

    `check` returns when the store can be written to and raises `StoreUnavailable` when it cannot; `draining` says
    whether the node is shutting down; `gathering` has the metrics of all workers where there are several.

    What `/readyz` raises is for the middleware of `server.web.problem` to answer.
    """

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        if draining():
            raise ShuttingDown("this node is shutting down")
        try:
            await asyncio.wait_for(check(), CHECK_SECONDS)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer within {CHECK_SECONDS:g} seconds") from None
        return web.json_response({"status": "ready"})

    async def scrape(_: web.Request) -> web.Response:
        exposition = metrics.exposition() if gathering is None else await gathering.exposition()
        return web.Response(body=exposition, headers={"Content-Type": CONTENT_TYPE})

    return [web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", scrape)]
