"""Who a request comes from: its token, its address, and the page that opened it."""

from __future__ import annotations

from aiohttp import hdrs, web

from server.access.addresses import client_address
from server.access.rates import Rate
from server.tokens import Claims, TokenError
from server.web.context import CONFIG, RATES, VERIFIER
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


def address_of(request: web.Request) -> bytes:
    """Which address the request counts for; see `client_address`."""
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return client_address(request.remote or "", forwarded, request.app[CONFIG].access.trust_proxy)


async def identify(request: web.Request) -> Claims:
    """The claims of the request's token. Raises `TokenError`, or `RateLimited` where too many were refused to its address.

    A good token is let in all the same: many people may share an address with one whose token has expired.
    """
    try:
        return await request.app[VERIFIER].verify(bearer(request))
    except TokenError:
        request.app[RATES].take(Rate.REFUSALS, address_of(request))
        raise


def count(request: web.Request, rate: Rate, claims: Claims) -> None:
    """Count for the account, or for the address where nobody signs in. Raises `RateLimited`."""
    request.app[RATES].take(rate, claims.subject or address_of(request))
