"""Errors as `application/problem+json` (RFC 9457): one body for a known error, one middleware that makes it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_writer import StreamWriter
from aiohttp.typedefs import Handler, Middleware

from server import errors
from server.metrics import Counters
from server.web.handshake import ClientGone

log = logging.getLogger(__name__)


RETRY_AFTER_SECONDS = 2
"""When a client is told to come back that was refused for want of a store, a key, or room, unless the error says when."""

_HTTP_CODES = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "request-entity-too-large",
    415: "unsupported-media-type",
    431: "request-header-fields-too-large",
}
"""Spelt out, since codes are stable: the phrases of `http.HTTPStatus` change from one Python to the next."""

_RETRIED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
"""Statuses for what passes by itself. Everyone may get them at once, so each is no line of a log."""


def middleware(counters: Counters) -> Middleware:
    """The outermost middleware: whatever a handler raises becomes a problem.

    An error that nobody expected is logged with its traceback and an incident id, and answered with the id alone.
    """

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return refusal(error, counters, where(request))
        except ClientGone:
            log.debug("the client left during the handshake", extra=where(request))
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # aiohttp wants one, and finds nobody to send it to
        except Exception as error:
            if isinstance(request.writer, StreamWriter) and request.writer.output_size > 0:
                raise  # part of another answer has gone out already; aiohttp logs this and cuts the connection
            if errors.answer(error) is not errors.INTERNAL:
                return problem(error, counters, where(request))
            counters.requests_failed += 1
            return _incident(request)

    return problems


def refusal(error: web.HTTPException, counters: Counters, where: Mapping[str, str]) -> web.Response:
    """The answer to a request that is refused as HTTP. Counts it, and logs a line with the fields of `where`."""
    code = _HTTP_CODES.get(error.status, f"http-{error.status}")
    _note(counters, error.status, code, error.reason, where)
    response = _response(error.status, code, code.replace("-", " ").capitalize(), error.reason, {})
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def problem(error: Exception, counters: Counters, where: Mapping[str, str]) -> web.Response:
    """The answer to a request that failed with a known error. Counts it, and logs a line with the fields of `where`.

    The body has `type`, `title`, `status`, `code`, `detail`, and the error's own fields (`limit`, `lineage`, ...): they
    are part of the outside interface.
    """
    row, code = errors.answer(error), errors.code(error)
    fields = {name: value for name, value in vars(error).items() if name != "reason" and isinstance(value, int | str)}
    reason = getattr(error, "reason", row.title)
    _note(counters, row.status, code, reason, where)
    return _response(row.status, code, row.title, reason, fields)


def _incident(request: web.Request) -> web.Response:
    incident = secrets.token_hex(8)
    log.exception("request failed", extra={"incident": incident, **where(request)})
    row = errors.INTERNAL
    detail = "Nothing that was acknowledged is lost. The server's log says more under the id of this incident."
    return _response(row.status, "internal", row.title, detail, {"incident": incident})


def where(request: web.Request) -> dict[str, str]:
    """The method, and the pattern that the address matches: the address itself may hold a token."""
    resource = request.match_info.route.resource
    return {"method": request.method, "resource": resource.canonical if resource else ""}


def _note(counters: Counters, status: int, code: str, reason: str, where: Mapping[str, str]) -> None:
    counters.requests_refused[code] += 1
    level = logging.DEBUG if status in _RETRIED else logging.INFO
    log.log(level, "request refused", extra={"code": code, "reason": reason, **where})


def _response(status: int, code: str, title: str, detail: str, fields: Mapping[str, int | str]) -> web.Response:
    body = {"type": f"urn:ebbtide:error:{code}", "title": title, "status": status, "code": code, "detail": detail}
    response = web.json_response({**fields, **body}, status=status, content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in _RETRIED:
        response.headers["Retry-After"] = str(fields.get("retry_after", RETRY_AFTER_SECONDS))
    return response
