"""What the server counts, in the Prometheus text format.

The hot path adds to plain integers; they are read when somebody asks for `/metrics`. `prometheus_client`'s own counters
take a lock at every increment, so only its text format and its view of the process (memory, CPU, files) are used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.figures import Figure

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_PREFIX = "ebbtide_"


def _counter(help_: str) -> int:
    counter: int = field(default=0, metadata={"help": help_})
    return counter


@dataclass(slots=True)
class Counters:
    """Totals since the start. Each field is a metric of the same name: `ebbtide_frames_received_total`.

    Where refusals are counted by `code`, that is a label. Only codes of ours may go there, never what a client chose.
    """

    sockets_opened: int = _counter("WebSockets accepted.")
    sockets_closed: Counter[str] = field(
        default_factory=Counter, metadata={"help": "WebSockets that the server closed, by close code."}
    )
    documents_denied: Counter[str] = field(
        default_factory=Counter, metadata={"help": "Documents denied to a WebSocket that stays open, by error code."}
    )
    requests_refused: Counter[str] = field(
        default_factory=Counter, metadata={"help": "Requests refused, handshakes of WebSockets included, by error code."}
    )
    frames_received: int = _counter("WebSocket messages from clients.")
    bytes_received: int = _counter("Bytes of WebSocket messages from clients.")
    pushes: int = _counter("Pushes answered with receipts.")
    entries_applied: int = _counter("Pushed entries answered with applied.")
    entries_duplicate: int = _counter("Pushed entries answered with duplicate.")
    entries_rejected: int = _counter("Pushed entries answered with rejected.")
    requests_failed: int = _counter("Requests that ended in an error nobody expected.")


class Metrics(Collector):
    """The metrics of one server: its counters, its process, and the figures that it was told to show."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._figures: list[Figure] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def show(self, figures: Iterable[Figure]) -> None:
        """Show these: a level as `ebbtide_{name}`, a total as `ebbtide_{name}_total`."""
        self._figures += figures

    def gauge(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Show what `read` returns, a level that rises and falls."""
        self.show([Figure(name, help_, read)])

    def total(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Show what `read` returns, which never falls."""
        self.show([Figure(name, help_, read, total=True)])

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`; reads every counter, gauge and total."""
        for each in fields(self._counters):
            value = getattr(self._counters, each.name)
            if isinstance(value, Counter):
                labelled = CounterMetricFamily(_PREFIX + each.name, each.metadata["help"], labels=["code"])
                for code, count in value.items():
                    labelled.add_metric([code], count)
                yield labelled
            else:
                yield CounterMetricFamily(_PREFIX + each.name, each.metadata["help"], value)
        for figure in self._figures:
            family = CounterMetricFamily if figure.total else GaugeMetricFamily
            yield family(_PREFIX + figure.name, figure.help, float(figure.read()))

    def exposition(self) -> bytes:
        """All metrics as they are now: the body of an answer of `CONTENT_TYPE`."""
        return generate_latest(self._registry)
