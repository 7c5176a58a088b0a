"""Joining a document of 260,000 edits, alone and 150 at once."""

from __future__ import annotations

import statistics

from bench import loadgen, machine, material
from bench.lab import Lab, Metric
from bench.loadgen import Running
from bench.peers import Peer

TITLE = "join: a document of 260,000 edits, 1 and 150 joiners at once"
METRICS = (
    Metric("alone_ms", "one joiner, median of 20, ms", "lower", 1),
    Metric("p50_ms", "150 at once, p50, ms", "lower", 1),
    Metric("max_ms", "150 at once, slowest, ms", "lower", 1),
    Metric("peak_states", "peak memory growth, in encoded states", "lower", 1),
)


def run(lab: Lab, peer: Peer) -> None:
    """Hand the document over as a client would, stay, and let others join."""
    paper = material.paper()
    whole = {"ids": 1, "expect": paper.clocks}
    with lab.start(peer) as server:
        lab.warm(server)
        name = lab.name()
        with Running(server, "sync", name=name, hold=1, upload=paper.path, **whole) as author:
            lab.run.keep(author.answer())
            # A joiner that must see everything waits until the server has taken in the author's upload.
            lab.load(server, "sync", name=name, clients=1, **whole)
            # One client at a time takes turns with the server, so that its share of its core says nothing.
            alone = [
                lab.run.keep(loadgen.run(server, "sync", name=name, clients=1, **whole), judge=False)["p50_ms"]
                for _ in range(20)
            ]
            resident = machine.resident_kb(server.pid)
            machine.reset_peak(server.pid)
            crowd = lab.load(server, "sync", name=name, clients=150, **whole)
            peak = machine.peak_kb(server.pid)
            if crowd["finished"] < 150:
                lab.run.note(f"{crowd['finished']} of 150 got the whole document within 60 s")
            if lab.text(server, name) != paper.text:
                lab.run.note("the text that a joiner reads differs from the recorded one")
    lab.run.figures |= {
        "alone_ms": statistics.median(alone),
        "p50_ms": crowd["p50_ms"],
        "max_ms": crowd["max_ms"],
        "peak_states": (peak - resident) * 1024 / paper.path.stat().st_size,
    }
