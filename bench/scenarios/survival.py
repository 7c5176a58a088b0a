"""Acknowledged edits that are gone after SIGKILL. Only the Hocuspocus protocol acknowledges, so it is what is asked."""

from __future__ import annotations

import random
import time

from bench.lab import Lab, Metric
from bench.loadgen import Running
from bench.peers import HOCUSPOCUS, Peer

TITLE = "survival: acknowledged edits lost over 20 kills"
METRICS = (
    Metric("lost", "acknowledged edits lost", "lower"),
    Metric("acknowledged", "acknowledged edits", ""),
)
ONCE = True  # twenty rounds in one run are the sample


def run(lab: Lab, peer: Peer) -> None:
    """Edit, kill at a random moment, start again on the same data, count."""
    if HOCUSPOCUS not in peer.paths:
        lab.run.note("its protocol acknowledges nothing")
        return
    rounds = 3 if lab.quick else 20
    chance = random.Random(1)
    data = lab.fresh()
    acknowledged = lost = 0
    server = lab.start(peer, data)
    try:
        for _ in range(rounds):
            name = lab.name()
            load = {"readers": 0, "rate": 500, "warm": 0, "seconds": 10, "drain": 0}
            with Running(server, "edit", dialect=HOCUSPOCUS, name=name, **load) as writer:
                time.sleep(chance.uniform(0.5, 1.0))
                server.kill()
                acked = int(lab.run.keep(writer.answer())["acknowledged"])
            server = lab.start(peer, data)
            kept = len(lab.text(server, name, dialect=HOCUSPOCUS))
            acknowledged += acked
            lost += max(0, acked - kept)
    finally:
        server.stop()
    lab.run.figures |= {"lost": lost, "acknowledged": acknowledged}
    if not peer.durable:
        lab.run.note("keeps documents in memory only")
