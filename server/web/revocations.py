"""`POST /api/v1/revocations`: withdraw tokens before they expire."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from server.access.revocations import MAX_NAME_BYTES, Kind, Revocation
from server.tokens import NOT_BEFORE_LEEWAY, is_name
from server.web.access import identify
from server.web.context import BODIES, CARRIERS, CONFIG, REVOCATIONS, VERIFIER
from sync.protocol.errors import BadRequest, UnsupportedContentType
from sync.rooms.errors import Forbidden

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 4 << 10

_TOKEN_KEYS, _SUBJECT_KEYS = {"token"}, {"subject", "issued_until"}


async def revoke(request: web.Request) -> web.Response:
    """Revoke what the body names; docs/protocol.md has the format. Errors become problem+json in the middleware.

    What is revoked is so on this node before anything is said to another, and before the answer, whatever that is.
    """
    app = request.app
    if app[CONFIG].open:
        raise Forbidden("an open server lets everyone in without a token, so there is none to revoke")
    claims = await identify(request)
    if not claims.admin:
        raise Forbidden('only a token with the claim "admin": true may revoke others')
    async with app[BODIES].read(request, MAX_BODY_BYTES) as body:
        app[VERIFIER].recheck(claims)
        wanted = decode_revocation(body, request.content_type, time.time(), app[REVOCATIONS].oldest())
    held = app[REVOCATIONS].add(wanted)
    log.info("revoked", extra={"by": claims.subject, "kind": held.kind.name.lower(), "revoked": held.name, "until": held.at})
    outcomes = await asyncio.gather(*(carrier.spread(held) for carrier in app[CARRIERS]), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
    return web.json_response({"revoked_at": held.at})


def decode_revocation(body: bytes, content_type: str, now: float, oldest: float) -> Revocation:
    """The revocation in a body of `{"subject": ..., "issued_until"?: ...}` or `{"token": ...}`.

    `oldest` is the time from which on entries are kept. Raises `BadRequest` or `UnsupportedContentType`.
    """
    if content_type != "application/json":
        raise UnsupportedContentType("send application/json")
    try:
        fields = json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise BadRequest("the body has to be an object")
    if fields.keys() == _TOKEN_KEYS:
        return Revocation(Kind.TOKEN, _name(fields, "token", Kind.TOKEN), now)
    if "subject" in fields and fields.keys() <= _SUBJECT_KEYS:
        # Any token that this server can have believed until now says that it was issued by then.
        until = _until(fields["issued_until"], now, oldest) if "issued_until" in fields else now + NOT_BEFORE_LEEWAY
        return Revocation(Kind.SUBJECT, _name(fields, "subject", Kind.SUBJECT), until)
    raise BadRequest("the body has to name a subject, with an issued_until or without, or a token, and nothing else")


def _no_number(constant: str) -> float:
    # Python reads NaN and Infinity, which JSON does not have and which compare like no time.
    raise ValueError(constant)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadRequest("a key occurs twice")
    return fields


def _name(fields: dict[str, Any], key: str, kind: Kind) -> str:
    value, most = fields[key], MAX_NAME_BYTES[kind]
    if not isinstance(value, str) or not is_name(value, most):
        raise BadRequest(f"{key} has to be a text of 1 to {most} bytes without control characters")
    return value


def _until(value: object, now: float, oldest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest("issued_until has to be a number of seconds since 1970")
    if value > now + NOT_BEFORE_LEEWAY:
        raise BadRequest("issued_until lies in the future by this server's clock; it is the time by the signer's clock")
    if value <= oldest:
        raise BadRequest("issued_until lies further back than revocations are kept (--revocation-hours)")
    return float(value)
