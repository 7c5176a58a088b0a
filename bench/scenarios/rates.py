"""The highest rate that a server holds: rising by fours, then halving the gap."""

from __future__ import annotations

from collections.abc import Callable

from bench.errors import BenchError
from bench.lab import Lab
from bench.loadgen import Answer, Running
from bench.peers import Peer
from bench.process import Server

P99_LIMIT_MS = 200.0
FIRST_RATE = 1_000.0
LOWEST_RATE = 15.0


def search(lab: Lab, peer: Peer, documents: int = 1, writers: int = 1, readers: int = 0) -> tuple[float, Answer | None]:
    """The best rate, in edits a second of all writers together, and what the load generator saw at 1,000 a second.

    A rate holds when every edit is delivered and the p99 from the moment it was due stays within 200 ms. A rate
    that fails while rising is tried a second time, since one hiccup of the machine fails a rate. Each step has a
    document of its own; a server that failed is replaced, so no step pays for another's backlog.
    """
    settings: dict[str, object] = {"warm": 0.5, "seconds": 1 if lab.quick else 2.5, "drain": 2}
    settings |= {"documents": documents, "writers": writers, "readers": readers}
    server: Server | None = None
    at_first: Answer | None = None

    def holds(rate: float) -> bool:
        nonlocal server, at_first
        if server is None or not server.alive:
            server = lab.start(peer)
            lab.warm(server)
        name = lab.name()
        try:
            with Running(server, "edit", name=name, rate=round(rate), hold=1, **settings) as clients:
                answer = lab.run.keep(clients.answer())
                good = _complete(answer) and answer["p99_ms"] <= P99_LIMIT_MS
                if good and documents == 1:
                    lab.prove(server, name, answer["sent"])
        except BenchError as error:
            lab.run.note(f"at {rate:,.0f} edits/s: {error}"[:300])
            server.stop()
            return False
        if rate == FIRST_RATE and (at_first is None or good):
            at_first = answer
        if not good:
            server.stop()
        return good

    try:
        return _bracket(holds, quick=lab.quick), at_first
    finally:
        if server is not None:
            server.stop()


def _complete(answer: Answer) -> bool:
    return bool(answer["delivered"] == answer["expected"] and not answer["closed"])


def _bracket(holds: Callable[[float], bool], quick: bool) -> float:
    good, bad, rate = 0.0, 0.0, FIRST_RATE
    while not good or not bad:
        if holds(rate) or (not quick and not bad and holds(rate)):
            good, rate = rate, rate * 4
        else:
            bad, rate = rate, rate / 4
            if not good and rate < LOWEST_RATE:
                return 0.0
        if good and bad:
            break
    for _ in range(2 if quick else 4):
        middle = (good * bad) ** 0.5
        if holds(middle):
            good = middle
        else:
            bad = middle
    return round(good)
