"""What the web layer finds in the application: each thing under one typed key."""

from __future__ import annotations

from aiohttp import web

from server.access.ports import Carrier
from server.access.rates import Rates
from server.access.revocations import Revocations
from server.config import Config
from server.metrics import Counters
from server.tokens import TokenVerifier
from server.web.bodies import Bodies
from server.web.sockets import Sockets
from server.workers.gathering import Gathering
from sync.rooms.ports import Bus, Store
from sync.rooms.registry import Rooms

BODIES = web.AppKey("bodies", Bodies)
CONFIG = web.AppKey("config", Config)
COUNTERS = web.AppKey("counters", Counters)
CARRIERS: web.AppKey[tuple[Carrier, ...]] = web.AppKey("carriers", tuple)
"""What keeps revocations and brings them to other nodes: at least one, unless the server is open."""
GATHERING = web.AppKey("gathering", Gathering)
RATES = web.AppKey("rates", Rates)
REVOCATIONS = web.AppKey("revocations", Revocations)
ROOMS = web.AppKey("rooms", Rooms)
BUS: web.AppKey[Bus] = web.AppKey("bus", Bus)
STORE: web.AppKey[Store] = web.AppKey("store", Store)
SOCKETS = web.AppKey("sockets", Sockets)
VERIFIER: web.AppKey[TokenVerifier] = web.AppKey("verifier", TokenVerifier)
