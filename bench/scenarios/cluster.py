"""Two nodes of one service: an edit on one has to reach the clients of the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.lab import Lab, Metric
from bench.loadgen import Running
from bench.peers import Peer, Shared
from bench.process import Server
from bench.scenarios import rates
from tests.harness.mongod import ReplicaSet
from tests.harness.redis_server import RedisServer

TITLE = "cluster: two nodes, 200 documents, the writer on one and the reader on the other"
METRICS = (
    Metric("edits", "edits/s across nodes, p99 under 200 ms", "higher"),
    Metric("p50", "p50 at 1,000 edits/s, ms", "lower", 2),
    Metric("p99", "p99 at 1,000 edits/s, ms", "lower", 2),
    Metric("p50_without", "p50 at 1,000 edits/s while Redis is stopped half-way, ms", "lower", 2),
    Metric("max_without", "longest at 1,000 edits/s while Redis is stopped half-way, ms", "lower", 2),
)
DOCUMENTS = 200
STOPPED_AFTER = 5.0
"""Seconds from the start of the clients until Redis stops: what is measured has begun then, and goes on."""


def run(lab: Lab, peer: Peer) -> None:
    """Both nodes share the servers' core; mongod and Redis share that of the load generator."""
    if peer.name not in ("ebbtide", "hocuspocus"):
        lab.run.note("is not measured as a cluster")
        return
    with shared(lab) as (parts, redis):
        best, first = rates.search(lab, peer, DOCUMENTS, readers=1, start=lambda: _nodes(lab, peer, parts))
        lab.run.figures["edits"] = best
        if first:
            lab.run.figures |= {"p50": first["p50_ms"], "p99": first["p99_ms"]}
        _without_redis(lab, peer, parts, redis)


@contextmanager
def shared(lab: Lab) -> Iterator[tuple[Shared, RedisServer]]:
    """A mongod of its own, durable as in earnest, and a Redis."""
    with ReplicaSet(lab.fresh()) as mongod, RedisServer(lab.fresh()) as redis:
        yield Shared(mongod.url("bench"), redis.port), redis


def _nodes(lab: Lab, peer: Peer, parts: Shared) -> list[Server]:
    return [lab.start(peer, shared=parts), lab.start(peer, shared=parts)]


def _without_redis(lab: Lab, peer: Peer, parts: Shared, redis: RedisServer) -> None:
    nodes = _nodes(lab, peer, parts)
    try:
        for node in nodes:
            lab.warm(node)
        load = {"documents": DOCUMENTS, "readers": 1, "rate": 1000, "warm": 1, "seconds": 8, "drain": 5}
        with Running(nodes[0], "edit", name=lab.name(), other_port=nodes[1].port, **load) as clients:
            time.sleep(STOPPED_AFTER)
            redis.signal(signal.SIGSTOP)
            answer = lab.run.keep(clients.answer())
        if answer["delivered"] == answer["expected"]:
            lab.run.figures |= {"p50_without": answer["p50_ms"], "max_without": answer["max_ms"]}
        else:
            lab.run.note(f"with Redis stopped {answer['delivered']:,} of {answer['expected']:,} edits reached the other node")
    finally:
        redis.signal(signal.SIGCONT)
        for node in nodes:
            node.stop()
