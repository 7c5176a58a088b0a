"""Who a request comes from: its token, and the page that opened it."""

from __future__ import annotations

from aiohttp import hdrs, web

from server.web.context import CONFIG
from sync.rooms.errors import Forbidden


def bearer(request: web.Request) -> str:
    """The request's token: `Authorization: Bearer`, or `?token=` for stock providers, who can send no header. "" if none."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.query.get("token", "")


def check_origin(request: web.Request) -> None:
    """Refuse a WebSocket that a foreign page opens: browsers ask no permission for it. Raises `Forbidden`."""
    origin = request.headers.get(hdrs.ORIGIN)
    if not request.app[CONFIG].admits_origin(origin, request.host):
        raise Forbidden(f"pages of {origin!a:.200} may not connect; the server's --origin names those that may")
