"""aiohttp's server with our limits on a request's head, bodies as they come, and our answer to what is no request at all."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from server.metrics import Counters
from server.web.context import COUNTERS
from server.web.problem import refusal

MAX_LINE_BYTES = 16 << 10
"""Longest header and longest address. Either may hold a token of 8 KiB, and the address a document's name besides."""

MAX_HEADERS = 64


class Runner(web.AppRunner):
    """An `AppRunner` for the server's application. `settings` are those of aiohttp's."""

    def __init__(self, app: web.Application, **settings: Any) -> None:
        limits: dict[str, Any] = {"max_line_size": MAX_LINE_BYTES, "max_field_size": MAX_LINE_BYTES, "max_headers": MAX_HEADERS}
        super().__init__(app, auto_decompress=False, **limits, **settings)

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self.app[COUNTERS])


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, made: web.Server, counters: Counters) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory, **made._kwargs)
        self.counters = counters

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self)


class _Protocol(web.RequestHandler):
    """One connection. aiohttp would log a traceback for what it cannot parse, and send a part of it back."""

    __slots__ = ("_counters",)

    def __init__(self, server: _Server) -> None:
        super().__init__(server, loop=server._loop, **server._kwargs)
        self._counters = server.counters

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        error: web.HTTPException
        if isinstance(exc, LineTooLong):
            error = web.HTTPRequestHeaderFieldsTooLarge(reason=f"the address or a header has more than {MAX_LINE_BYTES} bytes")
        else:
            error = web.HTTPBadRequest(reason="this is no well-formed request of HTTP/1.1, which alone is spoken here")
        # Not what the parser says: that quotes the request, and with it a token.
        response = refusal(error, self._counters, {"error": type(exc).__name__})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **fields: Any) -> None:
        # A body that cannot be read was answered, and is met again where aiohttp reads it to its end.
        if not isinstance(fields.get("exc_info"), HttpProcessingError | web.RequestPayloadError):
            super().log_exception(*args, **fields)
