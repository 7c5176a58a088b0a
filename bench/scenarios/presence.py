"""500 people in one room, each of whom moves a cursor once a second."""

from __future__ import annotations

from bench.lab import Lab, Metric
from bench.peers import Peer

TITLE = "presence: 500 people in one room at 1 Hz"
METRICS = (
    Metric("cpu", "CPU, % of a core", "lower", 1),
    Metric("delivered", "moves delivered, %", "higher", 1),
    Metric("p50_ms", "p50, ms", "lower", 1),
    Metric("p99_ms", "p99, ms", "lower", 1),
)


def run(lab: Lab, peer: Peer) -> None:
    """Let them move; a server that is at its limit shows by what it does not deliver."""
    with lab.start(peer) as server:
        lab.warm(server)
        answer = lab.load(server, "presence", name=lab.name(), clients=500, warm=2, rounds=3 if lab.quick else 8)
    lab.run.figures |= {
        "cpu": 100 * answer["server_cpu"],
        "delivered": 100 * answer["delivered"] / answer["expected"],
    }
    if answer["delivered"]:
        lab.run.figures |= {"p50_ms": answer["p50_ms"], "p99_ms": answer["p99_ms"]}
    if answer["closed"]:
        lab.run.note(f"{answer['closed']} of 500 were disconnected")
