from __future__ import annotations

import asyncio
from pathlib import Path

from tests.sync.rooms.kit import node


async def test_what_a_pull_gives_is_durable(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client = await here.client()
        here.store.gate.clear()
        update = client.edit("x")
        client.send(update)
        await here.store.attempted.wait()
        with here.rooms.answers.begin() as answer:
            pulling = asyncio.ensure_future(client.room.pull(b"\x00", answer))
            await asyncio.wait([pulling], timeout=0.2)
            assert not pulling.done(), "given before its commit was answered"
            here.store.gate.set()
            delta = await pulling
        assert (delta.seq, delta.update) == (1, update)
