"""100 devices come back with 1,000 offline edits each, to one document."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import msgpack  # type: ignore[import-untyped]

from bench import material
from bench.lab import Lab, Metric
from bench.loadgen import Running
from bench.peers import Peer
from bench.process import Server

TITLE = "push: 100 devices with 1,000 offline edits each"
METRICS = (
    Metric("converge_s", "all devices have everything, over the peer's own protocol, s", "lower", 3),
    Metric("entries", "POST /api/v1/sync, single entries made durable a second", "higher"),
)
DEVICES, EDITS = 100, 1_000


def run(lab: Lab, peer: Peer) -> None:
    """Over WebSocket against everyone; over HTTP against ours, which alone has the queue."""
    queues = material.queues(DEVICES, EDITS)
    offline = material.merged(queues)
    with lab.start(peer) as server:
        lab.warm(server)
        name = lab.name()
        load = {"clients": DEVICES, "ids": DEVICES, "expect": offline.clocks, "upload": offline.path}
        # Somebody has the document open before the devices come, and keeps it open for the proof.
        with Running(server, "sync", name=name, ids=DEVICES, hold=1) as reader:
            reader.answer()
            answer = lab.load(server, "sync", name=name, **load)
            if answer["finished"] == DEVICES:
                lab.prove(server, name, offline.clocks, DEVICES)
        lab.run.figures["converge_s"] = answer["seconds"] if answer["finished"] == DEVICES else None
        if answer["finished"] < DEVICES:
            lab.run.note(f"{answer['finished']} of {DEVICES} devices had everything within 60 s")
        if peer.kind == "ebbtide":
            _post(lab, server, queues)


def _post(lab: Lab, server: Server, queues: list[list[bytes]]) -> None:
    name = lab.name()
    document = f"{name}-00000"  # as the load generator names it
    bodies = [
        msgpack.packb(
            {
                "device": f"device-{device:03}",
                "entries": [
                    {"id": f"{device:03}-{number:06}", "doc": document, "update": update} for number, update in enumerate(queue)
                ],
                "pull": {},
            }
        )
        for device, queue in enumerate(queues)
    ]

    def push(body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        try:
            connection.request("POST", "/api/v1/sync", body, {"Content-Type": "application/msgpack"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    # The senders are few and their bodies are ready, so threads cost little; their CPU is kept with the rest.
    cpu, start = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(DEVICES) as devices:
        answers = list(devices.map(push, bodies))
    seconds = time.perf_counter() - start
    statuses: Counter[str] = Counter()
    for status, answer in answers:
        if status == http.HTTPStatus.OK:
            statuses.update(receipt["status"] for receipt in msgpack.unpackb(answer)["receipts"])
        else:
            statuses[f"HTTP {status}"] += 1
    lab.run.keep({"post_s": seconds, "statuses": dict(statuses), "loadgen_cpu": (time.process_time() - cpu) / seconds})
    if statuses["applied"] == DEVICES * EDITS:
        lab.run.figures["entries"] = DEVICES * EDITS / seconds
        lab.prove(server, name, DEVICES * EDITS, DEVICES)
    else:
        lab.run.note(f"POST /api/v1/sync: {dict(statuses)}")
