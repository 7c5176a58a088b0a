"""Large edits that come while others are being applied wait, in order, and are then taken together."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sync.rooms.gathering import LARGE, Gathering
from sync.rooms.peer import Peer
from tests.sync.rooms.kit import YWS, RecordingOutlet, node

SMALL, BIG = b"s", b"b" * LARGE


def peer() -> Peer:
    return Peer(RecordingOutlet(), YWS, "d", can_write=True)


async def test_large_edits_wait_as_long_as_the_last_ones_took_and_the_rest_goes_on() -> None:
    proceed = asyncio.Event()
    gathering = Gathering(asyncio.get_running_loop(), proceed.set)
    ada, bob = peer(), peer()
    assert gathering.take([(ada, BIG, True)]) == ([(ada, BIG, True)], True)
    gathering.took(0.05)
    small = (bob, SMALL, False)
    first, behind = (ada, BIG, True), (ada, SMALL, False)
    assert gathering.take([first, small]) == ([small], False)
    assert gathering.take([behind, small]) == ([small], False), "what a peer sent stays in order"
    assert gathering.held_back == LARGE + len(SMALL)
    assert not proceed.is_set()
    await proceed.wait()
    assert gathering.take([small]) == ([first, behind, small], True)
    assert gathering.held_back == 0


async def test_what_was_closed_waits_for_nothing() -> None:
    proceed = asyncio.Event()
    gathering = Gathering(asyncio.get_running_loop(), proceed.set)
    gathering.took(60)
    gathering.take([(peer(), BIG, True)])
    gathering.close()
    assert gathering.held_back == 0


async def test_edits_that_wait_are_applied_acknowledged_and_hold_the_document_and_the_stop(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        clients = [await here.client(author=str(number)) for number in range(5)]
        room = here.rooms.open("d")
        updates = [client.edit(str(number) * LARGE) for number, client in enumerate(clients)]
        clients[0].send(updates[0])
        await clients[0].acknowledged(updates[0])
        assert room._gathering is not None
        room._gathering.took(0.3)
        for client, update in zip(clients[1:], updates[1:], strict=True):
            client.send(update)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert room.held_back == sum(map(len, updates[1:]))
        assert not room.unload(float("inf"))
        await here.rooms.settle()
        assert room.held_back == 0
        for client, update in zip(clients, updates, strict=True):
            await client.acknowledged(update)
        assert sorted(await here.stored_text()) == sorted("".join(str(number) * LARGE for number in range(5)))
