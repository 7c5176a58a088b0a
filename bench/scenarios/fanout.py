"""One writer and many readers of one document."""

from __future__ import annotations

from bench.lab import Lab, Metric
from bench.peers import Peer
from bench.scenarios import rates

TITLE = "fan-out: 1 writer, 50 and 500 readers"
METRICS = tuple(
    metric
    for readers in (50, 500)
    for metric in (
        Metric(f"edits_{readers}", f"edits/s to {readers} readers, p99 under 200 ms", "higher"),
        Metric(f"deliveries_{readers}", f"deliveries/s to {readers} readers", ""),
        Metric(f"p50_{readers}", f"p50 at 1,000 edits/s, {readers} readers, ms", "lower", 2),
        Metric(f"p99_{readers}", f"p99 at 1,000 edits/s, {readers} readers, ms", "lower", 2),
    )
)


def run(lab: Lab, peer: Peer) -> None:
    """Find the best rate for 50 and for 500 readers."""
    for readers in (50, 500):
        best, first = rates.search(lab, peer, writers=1, readers=readers)
        lab.run.figures |= {f"edits_{readers}": best, f"deliveries_{readers}": best * readers}
        if first:
            lab.run.figures |= {f"p50_{readers}": first["p50_ms"], f"p99_{readers}": first["p99_ms"]}
