"""Reads the bodies of requests, so many bytes at a time on the whole node and none that stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from server.config import Limits
from sync.rooms.errors import Overloaded

BODIES_FACTOR = 8
"""How many of the largest bodies a node holds at once, in bytes. Each is held until its push is answered."""


class Bodies:
    """What clients have sent of pushes that are not answered. A body counts by what has come of it, not by its length."""

    def __init__(self, limits: Limits) -> None:
        self._largest = limits.max_push_bytes
        self._limit = limits.max_push_bytes * BODIES_FACTOR
        self._patience = limits.handshake_seconds
        self._held = 0

    @asynccontextmanager
    async def read(self, request: web.Request, largest: int | None = None) -> AsyncIterator[bytes]:
        """The whole body, which counts until the block ends. `largest` is that of a push unless given.

        Raises `HTTPRequestEntityTooLarge`, `HTTPRequestTimeout` when nothing more comes, `HTTPBadRequest` when it cannot be
        read to its end, and `Overloaded`.
        """
        largest = largest or self._largest
        if (request.content_length or 0) > largest:
            raise web.HTTPRequestEntityTooLarge(largest, request.content_length or 0)
        body = bytearray()
        try:
            while chunk := await self._next(request):
                body += chunk
                self._held += len(chunk)
                if len(body) > largest:
                    raise web.HTTPRequestEntityTooLarge(largest, len(body))
                if self._held > self._limit:
                    raise Overloaded("too many pushes are on their way to this node; send the same request again in a moment")
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _next(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._patience):
                return await request.content.readany()
        except TimeoutError:
            raise web.HTTPRequestTimeout(reason="the body stopped coming; send the same request again") from None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
            raise web.HTTPBadRequest(reason="the body broke off, or is not encoded as its headers say") from None
