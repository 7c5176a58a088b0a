"""The composition root: beside `server/stores/opening.py`, the only file that names concrete backends."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from aiohttp import web

from server.access.either import EitherCarrier
from server.access.file_list import open_file_list
from server.access.mongo_list import open_mongo_list
from server.access.ports import Carrier
from server.access.rates import Rate, Rates
from server.access.redis_lists import open_lists
from server.access.revocations import Revocations
from server.bus.both import BothBuses
from server.bus.either import EitherBus
from server.bus.local import LocalBus
from server.bus.mongo import MongoBus
from server.bus.ports import NodeBus
from server.bus.redis import open_redis
from server.bus.siblings import open_siblings
from server.config import DEFAULT_RATES, Config
from server.instruments import instruments
from server.keys import key_source
from server.memory import give_back
from server.metrics import Counters
from server.stores.mongo import MongoStore
from server.stores.mongo_database import Mongo
from server.stores.opening import connect_mongo, open_store
from server.tokens import OpenAccess, SignedTokens, TokenVerifier
from server.web.bodies import Bodies
from server.web.collab_socket import collab_socket
from server.web.context import (
    BODIES,
    BUS,
    CARRIERS,
    CONFIG,
    COUNTERS,
    GATHERING,
    RATES,
    REVOCATIONS,
    ROOMS,
    SOCKETS,
    STORE,
    VERIFIER,
)
from server.web.document_socket import document_socket
from server.web.encodings import plain_bodies
from server.web.front import front, nameless
from server.web.health import routes
from server.web.host import known_hosts
from server.web.problem import middleware
from server.web.revocations import revoke
from server.web.sockets import Sockets
from server.web.sync import push
from server.workers.gathering import Gathering
from server.workers.meeting import METRICS, NEWS
from server.workers.supervisor import Worker
from sync.rooms.limits import RoomLimits
from sync.rooms.ports import Store
from sync.rooms.registry import Rooms

ADDRESS_FACTOR = 10
"""How many accounts an address may stand for that opens WebSockets before it names any."""


async def make_app(config: Config, worker: Worker | None = None) -> web.Application:
    """The server, ready to be run. The caller calls `close_app` at the end.

    `worker` is its place when it is one of several on this machine. Raises `StoreUnusable` or `StoreUnavailable` when the
    database cannot be opened, `BusUnusable` for a wrong Redis, `OSError` when a folder cannot be used.
    """
    revocations = Revocations(config.access.revocation_hours, time.time, asyncio.get_running_loop().call_soon)
    rates = _rates(config)
    async with AsyncExitStack() as opened:
        store, mongo = await _store(config)
        opened.push_async_callback(store.close)
        bus = await _bus(config, store, mongo, worker)
        opened.push_async_callback(bus.close)
        carriers = await _carriers(config, mongo, revocations, rates)
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
    app = web.Application(middlewares=[middleware(counters), plain_bodies(counters), known_hosts(config)])
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
    app.router.add_get("/", front)
    app.router.add_get("/ws", nameless)
    app.router.add_get(r"/ws/{document:[\s\S]*}", document_socket, allow_head=False)
    app.router.add_get("/collab", collab_socket, allow_head=False)
    app.router.add_post("/api/v1/sync", push)
    app.router.add_post("/api/v1/revocations", revoke)
    metrics = instruments(app)
    metrics.show(bus.figures())
    gathering = None
    if worker is not None:
        gathering = Gathering(worker.folder / METRICS, worker.number, worker.workers, metrics.exposition)
        await gathering.open()
        app[GATHERING] = gathering
    app.router.add_routes(routes(rooms.check, lambda: sockets.leaving, metrics, gathering))
    return app


async def close_app(app: web.Application) -> None:
    """Release everything. What is not durable then was not acknowledged."""
    await app[ROOMS].close()
    for carrier in app[CARRIERS]:
        await carrier.close()
    await app[BUS].close()
    await app[STORE].close()
    await app[VERIFIER].close()
    if GATHERING in app:
        await app[GATHERING].close()


async def _store(config: Config) -> tuple[Store, Mongo | None]:
    """The store, and the MongoDB it is on, if it is on one."""
    if config.storage.url:
        mongo = await connect_mongo(config.storage)
        return MongoStore(mongo), mongo
    return await open_store(config.storage, config.data), None


async def _bus(config: Config, store: Store, mongo: Mongo | None, worker: Worker | None) -> NodeBus:
    if config.bus:
        # The feed's name is kept in the store and told to nobody.
        key = mongo.feed if mongo is not None else (await store.changes(0, 1)).feed
        redis = await open_redis(config.bus, key=key, prefix=config.bus_prefix)
        return redis if mongo is None else EitherBus(redis, MongoBus(mongo))
    near = LocalBus().connect() if worker is None else await open_siblings(worker.folder / NEWS)
    if mongo is None:
        return near
    stream = MongoBus(mongo)
    stream.start()
    return stream if worker is None else BothBuses(near, stream)


async def _carriers(config: Config, mongo: Mongo | None, revocations: Revocations, rates: Rates) -> tuple[Carrier, ...]:
    """All of them are needed: a folder may be this node's alone, and MongoDB and Redis are one that does with either."""
    async with AsyncExitStack() as opened:
        kept: Carrier | None = None
        if not config.open:
            if mongo is None:
                kept = await open_file_list(config.data / "revocations.sqlite", revocations)
            else:
                kept = await open_mongo_list(mongo, revocations)
            opened.push_async_callback(kept.close)
        shared = await open_lists(config.bus, config.bus_prefix, revocations, rates) if config.bus else None
        opened.pop_all()
    if mongo is not None and kept is not None and shared is not None:
        return (EitherCarrier(kept, shared),)
    return tuple(each for each in (kept, shared) if each is not None)


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
