"""The composition root: the only file that names concrete backends."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from aiohttp import web

from server.access.file_list import open_file_list
from server.access.ports import Carrier
from server.access.rates import Rate, Rates
from server.access.redis_lists import open_lists
from server.access.revocations import Revocations
from server.bus.either import EitherBus
from server.bus.local import LocalBus
from server.bus.mongo import MongoBus
from server.bus.redis import RedisBus, open_redis
from server.config import DEFAULT_RATES, Config
from server.keys import key_source
from server.memory import give_back
from server.metrics import Counters, Metrics
from server.stores.mongo import MongoStore
from server.stores.mongo_client import Mongo, MongoOptions, connect
from server.stores.sqlite import open_sqlite
from server.tokens import OpenAccess, SignedTokens, TokenVerifier
from server.web.bodies import Bodies
from server.web.collab_socket import collab_socket
from server.web.context import BODIES, BUS, CARRIERS, CONFIG, COUNTERS, RATES, REVOCATIONS, ROOMS, SOCKETS, STORE, VERIFIER
from server.web.document_socket import document_socket
from server.web.health import routes
from server.web.host import known_hosts
from server.web.problem import middleware
from server.web.revocations import revoke
from server.web.sockets import Sockets
from server.web.sync import push
from sync.rooms.limits import RoomLimits
from sync.rooms.ports import Bus, Store
from sync.rooms.registry import Rooms

ADDRESS_FACTOR = 10
"""How many accounts an address may stand for that opens WebSockets before it names any."""


async def make_app(config: Config) -> web.Application:
    """The server, ready to be run. The caller calls `close_app` at the end.

    Raises `StoreUnusable` or `StoreUnavailable` when the database cannot be opened, `BusUnusable` for a wrong Redis,
    `OSError` when its folder cannot be made.
    """
    revocations = Revocations(config.access.revocation_hours, time.time, asyncio.get_running_loop().call_soon)
    rates = _rates(config)
    async with AsyncExitStack() as opened:
        store, mongo = await _store(config)
        opened.push_async_callback(store.close)
        bus = await _bus(config, mongo)
        opened.push_async_callback(bus.close)
        carriers = await _carriers(config, revocations, rates)
        opened.pop_all()
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
    app[REVOCATIONS] = revocations
    app[CARRIERS] = carriers
    app[RATES] = rates
    app[VERIFIER] = _verifier(config, revocations)
    app.router.add_get(r"/ws/{document:[\s\S]*}", document_socket, allow_head=False)
    app.router.add_get("/collab", collab_socket, allow_head=False)
    app.router.add_post("/api/v1/sync", push)
    app.router.add_post("/api/v1/revocations", revoke)
    metrics = _metrics(counters, rooms, sockets, bus)
    _access_metrics(metrics, app)
    app.router.add_routes(routes(store.check, lambda: sockets.draining, metrics))
    return app


async def close_app(app: web.Application) -> None:
    """Release everything. What is not durable then was not acknowledged."""
    await app[ROOMS].close()
    for carrier in app[CARRIERS]:
        await carrier.close()
    await app[BUS].close()
    await app[STORE].close()
    await app[VERIFIER].close()


async def _store(config: Config) -> tuple[Store, Mongo | None]:
    """The store, and the MongoDB it is on, if it is on one."""
    storage = config.storage
    if not storage.url:
        config.data.mkdir(parents=True, exist_ok=True)
        return await open_sqlite(config.data / "ebbtide.sqlite"), None
    options = MongoOptions(storage.driver, storage.pool_most, storage.pool_least, storage.timeout, storage.reads)
    mongo = await connect(storage.url, options)
    return MongoStore(mongo), mongo


async def _bus(config: Config, mongo: Mongo | None) -> Bus:
    redis = await open_redis(config.bus, prefix=config.bus_prefix) if config.bus else None
    if mongo is None:
        return redis or LocalBus().connect()
    stream = MongoBus(mongo)
    if redis is not None:
        return EitherBus(redis, stream)
    stream.start()
    return stream


def _metrics(counters: Counters, rooms: Rooms, sockets: Sockets, bus: Bus) -> Metrics:
    metrics = Metrics(counters)
    committer = rooms.committer
    metrics.gauge("sockets", "Open WebSockets.", lambda: len(sockets))
    metrics.gauge("rooms", "Documents open on this node, in memory or resting.", lambda: len(rooms))
    metrics.gauge("pending_bytes", "Bytes applied and not yet durable.", lambda: committer.pending_bytes)
    metrics.gauge("store_healthy", "Whether the last append succeeded (1) or not (0).", lambda: committer.healthy)
    metrics.total("commits", "Transactions of the group commit.", lambda: committer.commits)
    metrics.total("entries", "Entries made durable.", lambda: committer.entries)
    redis = bus.redis if isinstance(bus, EitherBus) else bus
    if isinstance(redis, RedisBus):
        metrics.gauge("bus_healthy", "Whether Redis takes and gives news (1) or not (0).", lambda: redis.healthy)
        metrics.total("bus_dropped", "News that could not be sent; other nodes find it in the store.", lambda: redis.dropped)
    stream = bus.stream if isinstance(bus, EitherBus) else bus
    if isinstance(stream, MongoBus):
        metrics.gauge("change_stream_open", "Whether news comes by a change stream of MongoDB (1).", lambda: stream.open)
    return metrics


async def _carriers(config: Config, revocations: Revocations, rates: Rates) -> tuple[Carrier, ...]:
    async with AsyncExitStack() as opened:
        carriers: list[Carrier] = []
        if not config.open and not config.storage.url:
            carriers.append(await open_file_list(config.data / "revocations.sqlite", revocations))
            opened.push_async_callback(carriers[0].close)
        if config.bus:
            carriers.append(await open_lists(config.bus, config.bus_prefix, revocations, rates))
        opened.pop_all()
    return tuple(carriers)


def _access_metrics(metrics: Metrics, app: web.Application) -> None:
    revocations, rates, carriers = app[REVOCATIONS], app[RATES], app[CARRIERS]
    metrics.gauge("revocations", "Revocations that this node knows.", lambda: len(revocations))
    metrics.total("rates_uncounted", "Requests admitted for want of a counter.", lambda: rates.uncounted)
    metrics.gauge(
        "revocations_shared",
        "Whether revocations of other nodes arrive (1) or not (0).",
        lambda: bool(carriers) and all(carrier.healthy for carrier in carriers),
    )


def _verifier(config: Config, revocations: Revocations) -> TokenVerifier:
    if config.open:
        return OpenAccess()
    tokens, hours = config.tokens, config.access.token_hours
    longest = None if hours is None else hours * 3600.0
    return SignedTokens(key_source(tokens), revocations.check, issuer=tokens.issuer, audience=tokens.audience, longest=longest)


def _rates(config: Config) -> Rates:
    access, default = config.access, 0 if config.open else DEFAULT_RATES
    handshakes, pushes, refusals = (
        default if each is None else each for each in (access.rate_handshakes, access.rate_pushes, access.rate_refusals)
    )
    limits = {
        Rate.HANDSHAKES: handshakes,
        # One address may be a whole office, or a proxy.
        Rate.UNNAMED_HANDSHAKES: handshakes * ADDRESS_FACTOR,
        Rate.PUSHES: pushes,
        Rate.REFUSALS: refusals,
    }
    return Rates(limits, time.time)
