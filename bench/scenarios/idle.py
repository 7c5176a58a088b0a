"""Many connections that do nothing, each with its own document of 5 KB, which its client brings with it."""

from __future__ import annotations

import time

from bench import machine, material
from bench.lab import Lab, Metric
from bench.loadgen import Running
from bench.peers import Peer

TITLE = "idle: 5,000 connections, each with its own 5 KB document"
METRICS = (
    Metric("open_s", "time to open all, s", "lower", 2),
    Metric("kb_each", "memory a connection after 10 s, KB", "lower", 1),
    Metric("kb_opened", "memory a connection just after opening, KB", "", 1),
    Metric("cpu", "CPU while idle, % of a core", "lower", 2),
)


def run(lab: Lab, peer: Peer) -> None:
    """Open them all, let the server settle, watch it do nothing, and look whether it has the documents."""
    connections = 1_000 if lab.quick else 5_000
    settle, watch = (2.0, 2.0) if lab.quick else (10.0, 5.0)
    machine.allow_open_files(connections + 1_000)
    content = material.page()
    with lab.start(peer) as server:
        lab.warm(server)
        before = machine.resident_kb(server.pid)
        name = lab.name()
        load = {"clients": connections, "documents": connections, "at_once": 100, "upload": content.path, "timeout": 90}
        with Running(server, "sync", name=name, hold=1, **load) as held:
            answer = lab.run.keep(held.answer())
            if answer["finished"] < connections:
                lab.run.note(f"{answer['finished']:,} of {connections:,} connections opened")
                return
            opened = machine.resident_kb(server.pid)
            time.sleep(settle)
            settled = machine.resident_kb(server.pid)
            cpu = machine.cpu_seconds(server.pid)
            time.sleep(watch)
            cpu = machine.cpu_seconds(server.pid) - cpu
            for document in range(0, connections, connections // 5):
                lab.prove(server, name, content.clocks, first=document)
    lab.run.figures |= {
        "open_s": answer["seconds"],
        "kb_opened": (opened - before) / connections,
        "kb_each": (settled - before) / connections,
        "cpu": 100 * cpu / watch,
    }
    if lab.quick:
        lab.run.note("quick: 1,000 connections, 2 s to settle")
