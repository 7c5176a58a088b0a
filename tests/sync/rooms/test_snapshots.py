from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pycrdt

from sync.rooms.committer import SNAPSHOTS_MOST
from sync.rooms.limits import RoomLimits
from tests.sync.rooms.kit import PATIENCE, node, text_of

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


async def test_few_snapshots_are_under_way_however_slow_the_store_is(tmp_path: Path) -> None:
    begun: list[str] = []
    answering = asyncio.Event()
    async with node(tmp_path, LIMITS._replace(snapshot_entries=1)) as here:
        keep = here.store.snapshot

        async def snapshot(document: str, seq: int, state: bytes) -> None:
            begun.append(document)
            await answering.wait()
            await keep(document, seq, state)

        here.store.snapshot = snapshot  # type: ignore[method-assign]
        clients = [await here.client(f"d{index}") for index in range(3 * SNAPSHOTS_MOST)]
        try:
            for _ in range(2):
                for client in clients:
                    client.send(update := client.edit("a"))
                    await client.acknowledged(update)
            assert begun == [f"d{index}" for index in range(SNAPSHOTS_MOST)]
        finally:
            answering.set()
        # The others have theirs with a later edit.
        for client in clients:
            async with asyncio.timeout(PATIENCE):
                while not (await here.store.load(client.room.name)).snapshot_seq:
                    client.send(update := client.edit("b"))
                    await client.acknowledged(update)


async def test_few_documents_are_encoded_while_the_store_is_away(tmp_path: Path) -> None:
    async with node(tmp_path, LIMITS._replace(snapshot_entries=1)) as here:
        clients = [await here.client(f"d{index}") for index in range(3 * SNAPSHOTS_MOST)]
        here.store.away = True
        sent = [client.edit("a") for client in clients]
        for some in (slice(0, 1), slice(1, None)):
            here.store.attempted.clear()
            for client, update in zip(clients[some], sent[some], strict=True):
                client.send(update)
            await here.store.attempted.wait()
        here.store.away = False
        assert sum(client.room.log.has_snapshot for client in clients) == SNAPSHOTS_MOST
        for client, update in zip(clients, sent, strict=True):
            await client.acknowledged(update)
