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

log = logging.getLogger(__name__)


RETRY_AFTER_SECONDS = 2
"""When a client is told to come back that was refused for want of a store, a key, or room."""

_CODES = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request-entity-too-large"}
"""Codes of statuses whose names changed with a version of Python; any other status is its name."""

_RETRIED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


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
            return _of_http(error)
        except Exception as error:
            if isinstance(request.writer, StreamWriter) and request.writer.output_size > 0:
                raise  # part of another answer has gone out already; aiohttp logs this and cuts the connection
            if errors.answer(error) is not errors.INTERNAL:
                return problem(error)
            counters.requests_failed += 1
            return _incident(request)

    return problems


def problem(error: Exception) -> web.Response:
    """The answer to a request that failed with a known error.

    The body has `type`, `title`, `status`, `code`, `detail`, and the error's own fields (`limit`, `lineage`, ...): they
    are part of the outside interface.
    """
    row, code = errors.answer(error), errors.code(error)
    fields = {name: value for name, value in vars(error).items() if name != "reason" and isinstance(value, int | str)}
    return _response(row.status, code, row.title, getattr(error, "reason", row.title), fields)


def _of_http(error: web.HTTPException) -> web.Response:
    phrase = HTTPStatus(error.status).phrase
    code = _CODES.get(HTTPStatus(error.status), phrase.lower().replace(" ", "-"))
    response = _response(error.status, code, phrase, error.reason, {})
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _incident(request: web.Request) -> web.Response:
    incident = secrets.token_hex(8)
    resource = request.match_info.route.resource
    log.exception(
        "request failed",
        extra={"incident": incident, "method": request.method, "resource": resource.canonical if resource else ""},
    )
    row = errors.INTERNAL
    detail = "Nothing that was acknowledged is lost. The server's log says more under the id of this incident."
    return _response(row.status, "internal", row.title, detail, {"incident": incident})


def _response(status: int, code: str, title: str, detail: str, fields: Mapping[str, int | str]) -> web.Response:
    body = {"type": f"urn:ebbtide:error:{code}", "title": title, "status": status, "code": code, "detail": detail}
    response = web.json_response({**fields, **body}, status=status, content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in _RETRIED:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
