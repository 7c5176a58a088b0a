"""While the store is away a node takes edits up to a bound, and then reads no more: its memory stays where it is."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import aiohttp
import pycrdt

from sync.protocol.messages import SyncUpdate
from sync.protocol.yws import YWebSocket
from tests.faults.cluster import Cluster
from tests.harness.crowd import PATIENCE
from tests.harness.observed import Observe
from tests.harness.server_process import ServerProcess

YWS = YWebSocket()
EDIT_BYTES = 16 << 10
ONE_EDIT = EDIT_BYTES + 64
"""Bytes of an update that carries so much: client, clock and key beside it."""
LIMIT = 2 << 20
AWAY_SECONDS = 6.0
GROWTH = 16 << 20
"""Bytes by which memory may rise: what waits does so as edits, as drafts and in the document, and of each socket the node has
read once more. 0.3 to 3.6 MiB were seen; the rest is for how an allocator holds them."""


class Flood:
    """Sends large edits as fast as they are taken. Each replaces the one before, so the document stays small."""

    def __init__(self, url: str) -> None:
        self.sent = self.acknowledged = 0
        self._url = url

    async def run(self, until: asyncio.Event) -> None:
        """Send until the event is set, then wait for the last acknowledgement."""
        chance = random.Random(1)
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        cell = doc.get("cell", type=pycrdt.Map)
        async with aiohttp.ClientSession() as http, http.ws_connect(self._url, max_msg_size=0) as socket:
            await socket.send_bytes(YWS.step1("", doc.get_state()))
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(socket))
                while not until.is_set():
                    before = doc.get_state()
                    cell["value"] = chance.randbytes(EDIT_BYTES)
                    await socket.send_bytes(YWS.update("", doc.get_update(before)))
                    self.sent += 1
                    await asyncio.sleep(0)
                async with asyncio.timeout(PATIENCE):
                    while self.acknowledged < self.sent:
                        await asyncio.sleep(0.02)
                reading.cancel()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            assert message.type is aiohttp.WSMsgType.BINARY
            self.acknowledged += isinstance(YWS.decode(message.data, ""), SyncUpdate)
        raise AssertionError(f"the socket was closed with {socket.close_code}")


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the process has now."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def pending(server: ServerProcess) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics") as response:
        found = re.search(r"^ebbtide_pending_bytes (\S+)$", await response.text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_memory_stays_bounded_while_the_store_is_away(cluster: Cluster, observe: Observe) -> None:
    loop = asyncio.get_running_loop()
    with cluster.node("small", "--max-pending-bytes", str(LIMIT)) as node:
        floods, done = [Flood(f"{node.url}/ws/flood-{index}") for index in range(4)], asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for flood in floods:
                tasks.create_task(flood.run(done))
            async with asyncio.timeout(PATIENCE):
                while not all(flood.acknowledged > 50 for flood in floods):
                    await asyncio.sleep(0.05)
            before, memory, waiting = resident(node), [0], [0.0]
            cluster.members.cut_off_completely()
            end = loop.time() + AWAY_SECONDS
            while loop.time() < end:
                memory.append(resident(node))
                waiting.append(await pending(node))
                await asyncio.sleep(0.1)
            cluster.members.heal()
            done.set()
        held, later = max(waiting), waiting[len(waiting) // 2 :]
        assert held > LIMIT, "the node was never full"
        assert held <= LIMIT + ONE_EDIT, "it took more than the edit that filled it"
        assert min(later) == max(later), "a node that was full took more"
        assert max(memory) - before <= GROWTH
        observe(
            f"The store was away for {AWAY_SECONDS:g} s: {held / 2**20:.1f} MiB waited, limit {LIMIT / 2**20:.1f}; "
            f"memory rose by {max(0, max(memory) - before) / 2**20:.1f} MiB; {sum(flood.acknowledged for flood in floods)} "
            f"edits of {EDIT_BYTES >> 10} KiB acknowledged"
        )
