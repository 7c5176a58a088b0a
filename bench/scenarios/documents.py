"""500 documents with two clients each, both of which write."""

from __future__ import annotations

from bench.lab import Lab, Metric
from bench.peers import Peer
from bench.scenarios import rates

TITLE = "documents: 500 documents with 2 writing clients each"
METRICS = (
    Metric("edits", "edits/s over 500 documents, p99 under 200 ms", "higher"),
    Metric("p50", "p50 at 1,000 edits/s, ms", "lower", 2),
    Metric("p99", "p99 at 1,000 edits/s, ms", "lower", 2),
)


def run(lab: Lab, peer: Peer) -> None:
    """Find the best rate of all clients together."""
    best, first = rates.search(lab, peer, documents=500, writers=2, readers=0)
    lab.run.figures["edits"] = best
    if first:
        lab.run.figures |= {"p50": first["p50_ms"], "p99": first["p99_ms"]}
