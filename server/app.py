"""The composition root: beside `server/stores/opening.py`, the only file that names concrete backends."""

from __future__ import annotations

from aiohttp import web

from server.bus.local import LocalBus
from server.bus.redis import RedisBus, open_redis
from server.config import Config
from server.keys import key_source
from server.memory import give_back
from server.metrics import Counters, Metrics
from server.stores.opening import open_store
from server.tokens import OpenAccess, SignedTokens, TokenVerifier
from server.web.bodies import Bodies
from server.web.collab_socket import collab_socket
from server.web.context import BODIES, BUS, CONFIG, COUNTERS, ROOMS, SOCKETS, STORE, VERIFIER
from server.web.document_socket import document_socket
from server.web.health import routes
from server.web.host import known_hosts
from server.web.problem import middleware
from server.web.sockets import Sockets
from server.web.sync import push
from sync.rooms.limits import RoomLimits
from sync.rooms.ports import Bus
from sync.rooms.registry import Rooms


async def make_app(config: Config) -> web.Application:
    """The server, ready to be run. The caller calls `close_app` at the end.

    Raises `StoreUnusable` or `StoreUnavailable` when the database cannot be opened, `BusUnusable` for a wrong Redis,
    `OSError` when its folder cannot be made.
    """
    store = await open_store(config.storage, config.data)
    try:
        bus = await open_redis(config.bus, prefix=config.bus_prefix) if config.bus else LocalBus().connect()
    except BaseException:
        await store.close()
        raise
    limits = config.limits
    rooms = Rooms(
        store,
        bus,
        RoomLimits(
            update_bytes=limits.max_update_bytes,
            document_bytes=limits.max_document_bytes,
            presence_state_bytes=limits.max_presence_bytes,
            rooms=limits.max_rooms,
            idle_after=limits.idle_seconds,
            backlog_bytes=limits.max_backlog_bytes,
            pending_bytes=limits.max_pending_bytes,
            keep_entries=config.keep_entries,
        ),
        give_back,
    )
    counters = Counters()
    sockets = Sockets(limits.max_connections, limits.max_update_bytes)
    app = web.Application(middlewares=[middleware(counters), known_hosts(config)])
    app[BODIES] = Bodies(limits)
    app[CONFIG] = config
    app[STORE] = store
    app[BUS] = bus
    app[ROOMS] = rooms
    app[SOCKETS] = sockets
    app[COUNTERS] = counters
    app[VERIFIER] = _verifier(config)
    app.router.add_get(r"/ws/{document:[\s\S]*}", document_socket, allow_head=False)
    app.router.add_get("/collab", collab_socket, allow_head=False)
    app.router.add_post("/api/v1/sync", push)
    app.router.add_routes(routes(store.check, lambda: sockets.draining, _metrics(counters, rooms, sockets, bus)))
    return app


async def close_app(app: web.Application) -> None:
    """Release everything. What is not durable then was not acknowledged."""
    await app[ROOMS].close()
    await app[BUS].close()
    await app[STORE].close()
    await app[VERIFIER].close()


def _metrics(counters: Counters, rooms: Rooms, sockets: Sockets, bus: Bus) -> Metrics:
    metrics = Metrics(counters)
    committer = rooms.committer
    metrics.gauge("sockets", "Open WebSockets.", lambda: len(sockets))
    metrics.gauge("rooms", "Documents open on this node, in memory or resting.", lambda: len(rooms))
    metrics.gauge("pending_bytes", "Bytes applied and not yet durable.", lambda: committer.pending_bytes)
    metrics.gauge("store_healthy", "Whether the last append succeeded (1) or not (0).", lambda: committer.healthy)
    metrics.total("commits", "Transactions of the group commit.", lambda: committer.commits)
    metrics.total("entries", "Entries made durable.", lambda: committer.entries)
    if isinstance(bus, RedisBus):
        metrics.gauge("bus_healthy", "Whether Redis takes and gives news (1) or not (0).", lambda: bus.healthy)
        metrics.total("bus_dropped", "News that could not be sent; other nodes find it in the store.", lambda: bus.dropped)
    return metrics


def _verifier(config: Config) -> TokenVerifier:
    if config.open:
        return OpenAccess()
    tokens = config.tokens
    return SignedTokens(key_source(tokens), issuer=tokens.issuer, audience=tokens.audience)
