"""`GET /` and addresses without a document's name: for people who look with a browser or `curl` what is here."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import hdrs, web

_TEXT = f"""\
Ebbtide {version("ebbtide")}, a sync server for Yjs documents. It runs; connect with a provider:

  y-websocket           new WebsocketProvider('ws://HOST/ws', 'NAME', doc)
  @hocuspocus/provider  new HocuspocusProvider({{ url: 'ws://HOST/collab', name: 'NAME' }})
  offline queues        POST /api/v1/sync

/healthz: the process is alive. /readyz: it can take work. /metrics: for Prometheus.
"""

_NAMELESS = "a document's name is missing: WebSockets connect to /ws/NAME"


async def front(_: web.Request) -> web.Response:
    """A few lines on what this is, and where providers connect. Nothing in them depends on who asks."""
    return web.Response(text=_TEXT)


async def nameless(_: web.Request) -> web.Response:
    """`/ws`, where nothing is. Raises `HTTPNotFound`, which says what is missing."""
    raise web.HTTPNotFound(reason=_NAMELESS)


def check_named(request: web.Request) -> None:
    """Raises `HTTPBadRequest` for who asks for `/ws/` itself, and not for a WebSocket: those are told in their protocol."""
    if not request.match_info["document"] and hdrs.UPGRADE not in request.headers:
        raise web.HTTPBadRequest(reason=_NAMELESS)
