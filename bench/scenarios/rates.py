"""The highest rate that a server holds: rising by fours, then halving the gap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.errors import BenchError
from bench.lab import Lab
from bench.loadgen import Answer, Running
from bench.peers import Peer
from bench.process import Server

P99_LIMIT_MS = 200.0
FIRST_RATE = 1_000.0
LOWEST_RATE, HIGHEST_RATE = 10.0, 1_000_000.0
STEP = 4


Start = Callable[[], Sequence[Server]]
"""Starts the server, or two nodes: then every other client of a document is on the second."""


def search(
    lab: Lab, peer: Peer, documents: int = 1, writers: int = 1, readers: int = 0, start: Start | None = None
) -> tuple[float, Answer | None]:
    """The best rate, in edits a second of all writers together, and what was seen at 1,000 a second if all arrived.

    A rate holds when every edit is delivered and the p99 from the moment it was due stays within 200 ms. A rate
    that fails while rising is tried a second time, since one hiccup of the machine fails a rate. Each step has a
    document of its own; a server that failed is replaced, so no step pays for another's backlog.
    """
    settings: dict[str, object] = {
        "warm": 0.5,
        "seconds": 0.8 if lab.quick else 2.0,
        "drain": 1.0,
    }
    settings |= {"documents": documents, "writers": writers, "readers": readers}
    nodes: Sequence[Server] = ()
    at_first: Answer | None = None

    def holds(rate: float) -> bool:
        nonlocal nodes, at_first
        if not nodes or not all(node.alive for node in nodes):
            stop()
            nodes = start() if start else [lab.start(peer)]
            for node in nodes:
                lab.warm(node)
        server, name = nodes[0], lab.name()
        try:
            with Running(server, "edit", name=name, rate=round(rate), hold=1, other_port=nodes[-1].port, **settings) as clients:
                answer = lab.run.keep(clients.answer())
                good = _complete(answer) and answer["p99_ms"] <= P99_LIMIT_MS
                if good and documents == 1:
                    lab.prove(server, name, answer["sent"])
        except BenchError as error:
            lab.run.note(f"at {rate:,.0f} edits/s: {error}"[:300])
            stop()
            return False
        if rate == FIRST_RATE and _complete(answer):
            at_first = answer
        elif rate == FIRST_RATE:
            lab.run.note(f"at 1,000 edits/s {answer['delivered']:,} of {answer['expected']:,} deliveries arrived in time")
        if not good:
            stop()
        return good

    def stop() -> None:
        for node in nodes:
            node.stop()

    try:
        return _bracket(holds, quick=lab.quick), at_first
    finally:
        stop()


def _complete(answer: Answer) -> bool:
    return bool(answer["delivered"] == answer["expected"] and not answer["closed"])


def _bracket(holds: Callable[[float], bool], quick: bool) -> float:
    good, bad, rate = 0.0, math.inf, FIRST_RATE
    while not good or bad == math.inf:
        if holds(rate) or (not quick and bad == math.inf and holds(rate)):
            good, rate = rate, rate * STEP
        else:
            bad, rate = rate, rate / STEP
        if not LOWEST_RATE < rate < HIGHEST_RATE:
            return good
    for _ in range(1 if quick else 4):
        middle = math.sqrt(good * bad)
        if holds(middle):
            good = middle
        else:
            bad = middle
    return round(good)
