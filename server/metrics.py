"""What the server shows in the Prometheus text format, one row a metric.

The hot path adds to plain integers on the rooms' and the sockets' own objects; the rows read them when somebody asks.
`prometheus_client`'s counters take a lock at every increment, so only its text format and its view of the process (memory,
CPU, open files) are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.web.sockets import Sockets
from sync.rooms.registry import Rooms

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Row(NamedTuple):
    """A metric: counters are totals since the start and end in `_total`, gauges rise and fall."""

    family: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    help: str
    read: Callable[[Rooms, Sockets], float]


_COUNTER, _GAUGE = CounterMetricFamily, GaugeMetricFamily

ROWS = (
    Row(_GAUGE, "ebbtide_sockets", "Open WebSockets.", lambda _, sockets: len(sockets)),
    Row(_COUNTER, "ebbtide_sockets_opened", "WebSockets accepted.", lambda _, sockets: sockets.accepted),
    Row(_GAUGE, "ebbtide_rooms", "Documents in use or waiting to leave memory.", lambda rooms, _: len(rooms)),
    Row(_COUNTER, "ebbtide_commits", "Transactions of the store.", lambda rooms, _: rooms.committer.commits),
    Row(_COUNTER, "ebbtide_entries", "Log entries made durable.", lambda rooms, _: rooms.committer.entries),
    Row(
        _GAUGE,
        "ebbtide_pending_bytes",
        "Applied edits that wait for their commit.",
        lambda rooms, _: rooms.committer.pending_bytes,
    ),
    Row(
        _GAUGE,
        "ebbtide_store_healthy",
        "1 when the last commit succeeded, 0 when edits wait for the store.",
        lambda rooms, _: rooms.committer.healthy,
    ),
)


class _Scrape(Collector):
    def __init__(self, rooms: Rooms, sockets: Sockets) -> None:
        self._rooms = rooms
        self._sockets = sockets

    def collect(self) -> Iterator[Metric]:
        for row in ROWS:
            yield row.family(row.name, row.help, float(row.read(self._rooms, self._sockets)))


def exposition(rooms: Rooms, sockets: Sockets) -> bytes:
    """All metrics as they are now: the body of an answer of `CONTENT_TYPE`."""
    registry = CollectorRegistry()
    registry.register(_Scrape(rooms, sockets))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
