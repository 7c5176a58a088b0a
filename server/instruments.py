"""What /metrics reads from the parts of a running server."""

from __future__ import annotations

from aiohttp import web

from server.metrics import Metrics
from server.web.context import CARRIERS, COUNTERS, RATES, REVOCATIONS, ROOMS, SOCKETS


def instruments(app: web.Application) -> Metrics:
    """The metrics of an application that has all its parts. Whoever made the bus adds those of the bus."""
    metrics = Metrics(app[COUNTERS])
    rooms, sockets, committer, health = app[ROOMS], app[SOCKETS], app[ROOMS].committer, app[ROOMS].health
    metrics.gauge("sockets", "Open WebSockets.", lambda: len(sockets))
    metrics.gauge("rooms", "Documents open on this node, in memory or resting.", lambda: len(rooms))
    metrics.gauge("pending_bytes", "Bytes of edits that came and are not durable.", lambda: rooms.pending.held)
    metrics.gauge("answer_bytes", "Deltas of pulls that clients have not taken.", lambda: rooms.answers.held)
    metrics.gauge("presence_bytes", "What awareness states take.", lambda: rooms.presence.held)
    metrics.total("presence_passed_over", "Awareness states that found no room.", lambda: rooms.presence.passed_over)
    metrics.gauge("store_healthy", "Whether no append, poll or check failed lately (1) or one did (0).", lambda: health.healthy)
    metrics.total("commits", "Transactions of the group commit.", lambda: committer.commits)
    metrics.total("entries", "Entries made durable.", lambda: committer.entries)
    _access(metrics, app)
    return metrics


def _access(metrics: Metrics, app: web.Application) -> None:
    revocations, rates, carriers = app[REVOCATIONS], app[RATES], app[CARRIERS]
    metrics.gauge("revocations", "Revocations that this node knows.", lambda: len(revocations))
    metrics.total("rates_uncounted", "Requests admitted for want of a counter.", lambda: rates.uncounted)
    metrics.gauge(
        "revocations_shared",
        "Whether revocations of other nodes arrive and are kept for those that start (1) or not (0).",
        lambda: bool(carriers) and all(carrier.healthy for carrier in carriers),
    )
