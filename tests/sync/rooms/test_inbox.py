"""Large edits that come while others are being applied wait, in order, and are then taken together."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sync.rooms.inbox import LARGE, Inbox
from sync.rooms.peer import Peer
from sync.rooms.pending import PendingBytes
from tests.sync.rooms.kit import YWS, RecordingOutlet, node

SMALL, BIG = b"s", b"b" * LARGE


def peer() -> Peer:
    return Peer(RecordingOutlet(), YWS, "d", can_write=True)


async def test_large_edits_wait_as_long_as_the_last_ones_took_and_the_rest_goes_on() -> None:
    proceed = asyncio.Event()
    pending = PendingBytes(0)
    inbox = Inbox(asyncio.get_running_loop(), pending, proceed.set)
    ada, bob = peer(), peer()
    first, behind, small = (ada, BIG, True, ada.grant), (ada, SMALL, False, ada.grant), (bob, SMALL, False, bob.grant)
    inbox.add(first)
    assert inbox.take() == [first]
    time.sleep(0.1)  # noqa: ASYNC251 - applying does not yield either
    inbox.applied()
    inbox.add(first)
    inbox.add(small)
    assert inbox.take() == [small]
    inbox.applied()
    inbox.add(behind)
    inbox.add(small)
    assert inbox.take() == [small], "what a peer sent stays in order"
    inbox.applied()
    assert pending.held == inbox.bytes == LARGE + len(SMALL)
    assert not proceed.is_set()
    await proceed.wait()
    inbox.add(small)
    assert inbox.take() == [first, behind, small]
    assert not inbox
    assert pending.held == inbox.bytes == 0
    inbox.add(first)
    inbox.clear()
    assert pending.held == inbox.bytes == 0


async def test_small_edits_wait_for_nothing() -> None:
    pending = PendingBytes(0)
    inbox = Inbox(asyncio.get_running_loop(), pending, lambda: None)
    ada = peer()
    small = (ada, SMALL, False, ada.grant)
    for _ in range(3):
        inbox.add(small)
        assert pending.held == inbox.bytes == len(SMALL)
        assert inbox.take() == [small]
        assert pending.held == 0
        inbox.applied()


async def test_edits_that_wait_are_applied_acknowledged_and_hold_the_document_and_the_stop(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        clients = [await here.client(author=str(number)) for number in range(5)]
        room = here.rooms.open("d")
        updates = [client.edit(str(number) * LARGE) for number, client in enumerate(clients)]
        room.receive(clients[0].peer, updates[0])
        room.inbox.take()
        time.sleep(0.3)  # noqa: ASYNC251 - applying does not yield either
        room.inbox.applied()
        for client, update in zip(clients, updates, strict=True):
            client.send(update)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert room.inbox.bytes == sum(map(len, updates))
        assert not room.unload(float("inf"))
        await here.rooms.settle()
        assert not room.inbox
        for client, update in zip(clients, updates, strict=True):
            await client.acknowledged(update)
        assert sorted(await here.stored_text()) == sorted("".join(str(number) * LARGE for number in range(5)))
