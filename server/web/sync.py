"""`POST /api/v1/sync`: the offline queue."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from server.access.rates import Rate
from server.web.access import count, identify
from server.web.context import BODIES, CONFIG, COUNTERS, ROOMS, VERIFIER
from server.web.sending import send
from sync.protocol.push import PushAnswer
from sync.protocol.push_codec import decode_push, encode_answer
from sync.rooms.answers import Answer
from sync.rooms.errors import StoreUnavailable
from sync.rooms.push import answer

PUSH_SECONDS = 30.0
"""How long a push waits for the store before the client is told to come back."""


async def push(request: web.Request) -> web.StreamResponse:
    """Take entries and give deltas; docs/protocol.md has the format. Errors become problem+json in the middleware."""
    with request.app[ROOMS].answers.begin() as held:
        # In a call of its own, after which nothing of the body is left.
        result = await _take(request, held)
        return await send(request, encode_answer(result, request.content_type), request.content_type)


async def _take(request: web.Request, held: Answer) -> PushAnswer:
    app = request.app
    claims = await identify(request)
    count(request, Rate.PUSHES, claims)
    async with app[BODIES].read(request) as body:
        # The body may have taken its time, and the token may have ended meanwhile.
        app[VERIFIER].recheck(claims)
        wanted = decode_push(body, request.content_type, max_entries=app[CONFIG].limits.max_push_entries)
        try:
            async with asyncio.timeout(PUSH_SECONDS):
                result = await answer(app[ROOMS], claims, wanted, held)
        except TimeoutError:
            raise StoreUnavailable("the store did not take the entries in time; send the same request again") from None
    counters = app[COUNTERS]
    counters.pushes += 1
    statuses = Counter([receipt.status for receipt in result.receipts])
    counters.entries_applied += statuses["applied"]
    counters.entries_duplicate += statuses["duplicate"]
    counters.entries_rejected += statuses["rejected"]
    return result
