"""Bodies come as they are: one that is compressed would cost far more to read than to send."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from server.metrics import Counters
from server.web.problem import refusal, where


def plain_bodies(counters: Counters) -> Middleware:
    """Refuses a request with a `Content-Encoding`, whatever its address, before any of its body is looked at."""

    @web.middleware
    async def plain(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() == "identity":
            return await handler(request)
        error = web.HTTPUnsupportedMediaType(reason="bodies are taken as they are: send this one without Content-Encoding")
        response = refusal(error, counters, where(request))
        response.force_close()
        return response

    return plain
