"""`POST /api/v1/sync`: the offline queue."""

from __future__ import annotations

import asyncio

from aiohttp import web

from server.web.access import bearer
from server.web.keys import CONFIG, ROOMS, VERIFIER
from sync.protocol.push import decode_push
from sync.rooms.errors import Overloaded, StoreUnavailable
from sync.rooms.push import changes, pull, take

PUSH_SECONDS = 30.0
"""How long a push waits for the store before the client is told to come back."""


async def push(request: web.Request) -> web.Response:
    """Take entries, give deltas: see docs/protocol.md. Errors become problem+json in the middleware."""
    claims = await request.app[VERIFIER].verify(bearer(request))
    limits = request.app[CONFIG].limits
    rooms = request.app[ROOMS]
    body = await request.read()
    wanted = decode_push(body, request.content_type, max_entries=limits.max_push_entries)
    try:
        async with asyncio.timeout(PUSH_SECONDS):
            receipts = await take(rooms, claims, wanted.device, wanted.entries)
            deltas = await pull(rooms, claims, wanted.pull)
            feed = await changes(rooms, claims, wanted.since) if wanted.since is not None else None
    except TimeoutError:
        raise StoreUnavailable("the store did not take the entries in time; send the same request again") from None
    raise Overloaded("unreachable")
