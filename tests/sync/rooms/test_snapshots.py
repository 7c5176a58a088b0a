from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pycrdt

from sync.rooms.limits import RoomLimits
from tests.sync.rooms.kit import node, text_of

LIMITS = RoomLimits(poll_interval=0.02, snapshot_entries=3)
LIMITS_OF_NONE = RoomLimits(poll_interval=0.02)
"""With too little written for a snapshot."""


async def test_a_snapshot_has_nothing_that_is_not_in_the_log_up_to_its_number(tmp_path: Path) -> None:
    """One node is told of a conflict; until it tries again, more is applied, which is for the append after that."""
    snapshots: list[tuple[int, bytes]] = []
    async with node(tmp_path, LIMITS) as here, node(tmp_path, LIMITS) as there:
        keep = here.store.snapshot

        async def snapshot(document: str, seq: int, state: bytes) -> None:
            snapshots.append((seq, state))
            await keep(document, seq, state)

        here.store.snapshot = snapshot  # type: ignore[method-assign]
        client = await here.client()
        client.send(first := client.edit("1"))
        await client.acknowledged(first)
        here.store.gate.clear()
        other = await there.client()
        for text in "ab":
            other.send(update := other.edit(text))
            await other.acknowledged(update)
        here.store.attempted.clear()
        client.send(second := client.edit("2"))
        await here.store.attempted.wait()
        client.send(third := client.edit("3"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.room.journal.applied == 3
        here.store.gate.set()
        await client.acknowledged(second, third)
        client.send(fourth := client.edit("4"))
        await client.acknowledged(fourth)
        log = await here.log()
        assert snapshots
        for seq, state in snapshots:
            assert text_of([state]) == text_of([entry.update for entry in log if entry.seq <= seq])


async def test_bytes_that_other_nodes_appended_count_for_a_snapshot(tmp_path: Path) -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    page = doc.get("page", type=pycrdt.Map)
    limits = RoomLimits(poll_interval=0.02, snapshot_bytes=1000)
    async with node(tmp_path, limits) as here, node(tmp_path, LIMITS_OF_NONE) as there:
        client, other = await here.client(), await there.client()
        # One place written again and again: much more to read than what is left.
        for number in range(20):
            before = doc.get_state()
            page["text"] = f"{number}" + "x" * 500
            other.send(update := doc.get_update(before))
            await other.acknowledged(update)
            await client.acknowledged(update)
        client.send(last := client.edit("mine"))
        await client.acknowledged(last)
        await here.rooms.close()
        assert (await here.store.load("d")).snapshot_seq == 21
