"""Reads the bodies of requests, so many bytes at a time on the whole node and none that come too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from server.config import Limits
from server.web.pace import Pace
from sync.rooms.errors import Overloaded

BODIES_FACTOR = 8
"""How many of the largest bodies a node holds at once, in bytes. Each is held until its push is answered."""


class _Body:
    """One that is being read: what has come of it, what of that counts, and until when more is to come."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.counted = 0
        self.evicted = False
        self.timeout = asyncio.timeout(None)

    def evict(self) -> None:
        self.evicted = True
        if not self.timeout.expired():
            self.timeout.reschedule(0)


class Bodies:
    """What clients have sent of pushes that are not answered. A body counts by what has come of it, not by its length.

    When that is more than the node may hold, those are evicted that have been coming longest: an honest body is soon whole.
    """

    def __init__(self, limits: Limits) -> None:
        self._largest = limits.max_push_bytes
        self._limit = limits.max_push_bytes * BODIES_FACTOR
        self._patience = limits.handshake_seconds
        self._held = 0
        # Those that are not whole yet. Who began first comes first.
        self._coming: dict[_Body, None] = {}

    @asynccontextmanager
    async def read(self, request: web.Request, largest: int | None = None) -> AsyncIterator[bytes]:
        """The whole body, which counts until the block ends. `largest` is that of a push unless given.

        Raises `HTTPRequestEntityTooLarge`, `HTTPRequestTimeout` when nothing more comes or too little, `HTTPBadRequest` when it
        cannot be read to its end, and `Overloaded`.
        """
        largest = largest or self._largest
        if (request.content_length or 0) > largest:
            raise web.HTTPRequestEntityTooLarge(largest, request.content_length or 0)
        body = _Body()
        self._coming[body] = None
        try:
            await self._receive(body, request.content, largest)
            self._coming.pop(body, None)
            yield bytes(body.data)
        finally:
            self._coming.pop(body, None)
            self._held -= body.counted

    async def _receive(self, body: _Body, content: StreamReader, largest: int) -> None:
        loop = asyncio.get_running_loop()
        pace = Pace(0, loop.time())
        try:
            async with body.timeout as timeout:
                timeout.reschedule(loop.time() + self._patience)
                while not body.evicted and (chunk := await content.readany()):
                    body.data += chunk
                    if len(body.data) > largest:
                        raise web.HTTPRequestEntityTooLarge(largest, len(body.data))
                    self._count(body, len(chunk))
                    now = loop.time()
                    pace.move(len(body.data), now)
                    timeout.reschedule(min(now + self._patience, pace.deadline))
        except TimeoutError:
            if not body.evicted:
                raise web.HTTPRequestTimeout(
                    reason="the body stopped coming, or came too slowly; send the same request again"
                ) from None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
            raise web.HTTPBadRequest(reason="the body broke off, or is not encoded as its headers say") from None
        if body.evicted:
            raise Overloaded("too many pushes are on their way to this node; send the same request again in a moment")

    def _count(self, body: _Body, more: int) -> None:
        if body.evicted:
            return
        body.counted += more
        self._held += more
        while self._held > self._limit:
            oldest = next(iter(self._coming))
            del self._coming[oldest]
            self._held -= oldest.counted
            oldest.counted = 0
            oldest.evict()
