"""Refuses requests under names that are not this server's."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from server.config import Config
from sync.rooms.errors import Forbidden


def known_hosts(config: Config) -> Middleware:
    """A middleware for behind the one of `server.web.problem`; see `Config.admits_host`. It raises `Forbidden`."""

    @web.middleware
    async def refuse_other_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not config.admits_host(request.headers.get(hdrs.HOST, "")):
            raise Forbidden("an open server answers to loopback names alone, such as 127.0.0.1 and localhost")
        return await handler(request)

    return refuse_other_hosts
