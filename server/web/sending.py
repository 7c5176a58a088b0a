"""Sends an answer as fast as its client takes it, and holds hardly more of it than is on the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import chain

from aiohttp import web

log = logging.getLogger(__name__)

UNREAD_SECONDS = 30.0
"""How long a client may take for a piece of an answer before its connection is dropped."""

WHOLE_BYTES = 64 << 10
"""Answers up to this size go out as one."""


async def send(request: web.Request, pieces: Iterator[bytes | memoryview], content_type: str) -> web.StreamResponse:
    """Answer with the pieces, each of which is asked for when the client has taken most of the one before."""
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > WHOLE_BYTES:
            break
    else:
        return web.Response(body=bytes(whole), content_type=content_type)
    response = web.StreamResponse(headers={"Content-Type": content_type})
    try:
        await response.prepare(request)
        for piece in chain([bytes(whole)], pieces):
            async with asyncio.timeout(UNREAD_SECONDS):
                await response.write(piece)
        async with asyncio.timeout(UNREAD_SECONDS):
            await response.write_eof()
    except TimeoutError:
        log.info("answer dropped", extra={"reason": f"its client took nothing for {UNREAD_SECONDS:g} seconds"})
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        log.debug("answer not sent", extra={"reason": "its client is gone"})
    return response
