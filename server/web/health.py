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

FRESH_SECONDS = 1.0
"""How long the outcome of a check holds: each writes to the store, and anybody may ask."""


class SharedCheck:
    """One check for all who ask while it runs, and for who asks shortly after it."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._running: asyncio.Task[None] | None = None
        self._stale_at = 0.0

    async def __call__(self) -> None:
        """Raises what the check does, and `StoreUnavailable` when that takes too long: it goes on, and none is added to it."""
        loop = asyncio.get_running_loop()
        if self._running is None or (self._running.done() and loop.time() >= self._stale_at):
            self._running = loop.create_task(self._run())
            # Nobody may be left to be told.
            self._running.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait_for(asyncio.shield(self._running), CHECK_SECONDS)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer within {CHECK_SECONDS:g} seconds") from None

    async def _run(self) -> None:
        try:
            await self._check()
        finally:
            self._stale_at = asyncio.get_running_loop().time() + FRESH_SECONDS


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

    shared = SharedCheck(check)

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(_: web.Request) -> web.Response:
        if draining():
            raise ShuttingDown("this node is shutting down")
        await shared()
        return web.json_response({"status": "ready"})

    async def scrape(_: web.Request) -> web.Response:
        exposition = metrics.exposition() if gathering is None else await gathering.exposition()
        return web.Response(body=exposition, headers={"Content-Type": CONTENT_TYPE})

    return [web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", scrape)]
