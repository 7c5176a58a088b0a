"""A node that starts beside a store with 100,000 documents."""

from __future__ import annotations

import asyncio
import http.client
import time

from bench.errors import BenchError
from bench.lab import Lab, Metric
from bench.material import queues
from bench.peers import Peer
from bench.scenarios.cluster import shared
from server.stores.mongo import open_mongo
from server.stores.mongo_client import MongoOptions
from sync.rooms.ports import Append, Draft

TITLE = "cold: from the start of a node to ready, 100,000 documents in MongoDB"
METRICS = (Metric("ready_s", "seconds from the start of the process to /readyz 200", "lower", 2),)
BATCH = 500
PATIENCE = 30.0


def run(lab: Lab, peer: Peer) -> None:
    """Ours alone: the peers have no such store."""
    if peer.name != "ebbtide":
        lab.run.note("has no such store")
        return
    documents = 5_000 if lab.quick else 100_000
    with shared(lab) as (parts, _):
        asyncio.run(_fill(parts.database, documents))
        start = time.perf_counter()
        with lab.start(peer, shared=parts) as server:
            deadline = start + PATIENCE
            while _status(server.port) != http.HTTPStatus.OK:
                if time.perf_counter() > deadline:
                    raise BenchError(f"the node was not ready within {PATIENCE:.0f} s")
                time.sleep(0.01)
            lab.run.figures["ready_s"] = time.perf_counter() - start


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


async def _fill(url: str, documents: int) -> None:
    store = await open_mongo(url, MongoOptions())
    edit = Draft(queues(1, 1)[0][0], "ada", "phone")
    try:
        for start in range(0, documents, BATCH):
            await store.append([Append(f"document-{number}", 0, [edit], "lineage") for number in range(start, start + BATCH)])
    finally:
        await store.close()
