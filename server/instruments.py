"""What /metrics reads from the parts of a running server."""

from __future__ import annotations

from aiohttp import web

from server.bus.both import BothBuses
from server.bus.either import EitherBus
from server.bus.mongo import MongoBus
from server.bus.redis import RedisBus
from server.bus.siblings import SiblingBus
from server.metrics import Metrics
from server.web.context import BUS, CARRIERS, COUNTERS, RATES, REVOCATIONS, ROOMS, SOCKETS
from sync.rooms.ports import Bus


def instruments(app: web.Application) -> Metrics:
    """The metrics of an application that has all its parts."""
    metrics = Metrics(app[COUNTERS])
    rooms, sockets, committer = app[ROOMS], app[SOCKETS], app[ROOMS].committer
    metrics.gauge("sockets", "Open WebSockets.", lambda: len(sockets))
    metrics.gauge("rooms", "Documents open on this node, in memory or resting.", lambda: len(rooms))
    metrics.gauge("pending_bytes", "Bytes of edits that came and are not durable.", lambda: rooms.pending.held)
    metrics.gauge("answer_bytes", "Deltas of pulls that clients have not taken.", lambda: rooms.answers.held)
    metrics.gauge("presence_bytes", "What awareness states take.", lambda: rooms.presence.held)
    metrics.total("presence_passed_over", "Awareness states that found no room.", lambda: rooms.presence.passed_over)
    metrics.gauge("store_healthy", "Whether no append failed lately (1) or one did (0).", lambda: committer.healthy)
    metrics.total("commits", "Transactions of the group commit.", lambda: committer.commits)
    metrics.total("entries", "Entries made durable.", lambda: committer.entries)
    _bus(metrics, app[BUS])
    _access(metrics, app)
    return metrics


def _bus(metrics: Metrics, bus: Bus) -> None:
    if isinstance(bus, EitherBus):
        _bus(metrics, bus.redis)
        _bus(metrics, bus.stream)
    elif isinstance(bus, BothBuses):
        _bus(metrics, bus.one)
        _bus(metrics, bus.other)
    elif isinstance(bus, RedisBus):
        metrics.gauge("bus_healthy", "Whether Redis takes and gives news (1) or not (0).", lambda: bus.healthy)
        metrics.total("bus_dropped", "News that could not be sent; other nodes find it in the store.", lambda: bus.dropped)
        metrics.total("bus_refused", "News that came from nobody on this store.", lambda: bus.refused)
    elif isinstance(bus, SiblingBus):
        metrics.gauge("bus_siblings", "Other workers of this machine that news go to.", lambda: bus.siblings)
        metrics.total("bus_dropped", "News that could not be sent; other nodes find it in the store.", lambda: bus.dropped)
    elif isinstance(bus, MongoBus):
        metrics.gauge("change_stream_open", "Whether news comes by a change stream of MongoDB (1).", lambda: bus.open)


def _access(metrics: Metrics, app: web.Application) -> None:
    revocations, rates, carriers = app[REVOCATIONS], app[RATES], app[CARRIERS]
    metrics.gauge("revocations", "Revocations that this node knows.", lambda: len(revocations))
    metrics.total("rates_uncounted", "Requests admitted for want of a counter.", lambda: rates.uncounted)
    metrics.gauge(
        "revocations_shared",
        "Whether revocations of other nodes arrive (1) or not (0).",
        lambda: bool(carriers) and all(carrier.healthy for carrier in carriers),
    )
