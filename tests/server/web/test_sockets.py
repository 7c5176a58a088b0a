"""The bookkeeping of sockets, with sockets that note what is done to them and seconds that the test lets pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.web.sockets import HELD_FACTOR, PING_SECONDS, Sockets
from sync.rooms.errors import Overloaded, ShuttingDown

LARGEST = 100
MOST = LARGEST * HELD_FACTOR


class Socket:
    """One of `sockets`, which it leaves when it is failed, evicted or aborted. `there` is what a ping finds out."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.there = True
        self.pings = 0
        self.errors: list[Exception] = []
        self.aborted = False
        self.turn = -1

    def ping(self) -> bool:
        self.pings += 1
        return self.there

    def fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.turn = turns
        self.sockets.discard(self)

    def evict(self, error: Exception) -> None:
        self.fail(error)

    def abort(self) -> None:
        self.aborted = True
        self.sockets.discard(self)


turns = 0
"""The loop's turns while `counted_turns`."""


@asynccontextmanager
async def counted_turns() -> AsyncIterator[None]:
    async def count() -> None:
        global turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    try:
        yield
    finally:
        counting.cancel()


@pytest.fixture
def sockets() -> Sockets:
    return Sockets(1000, LARGEST)


def opened(sockets: Sockets, count: int) -> list[Socket]:
    made = [Socket(sockets) for _ in range(count)]
    for each in made:
        sockets.add(each)
    return made


async def test_each_socket_is_pinged_once_in_a_while_and_dropped_when_it_is_gone(sockets: Sockets) -> None:
    passing: asyncio.Queue[float] = asyncio.Queue()
    slept: asyncio.Queue[float] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        slept.put_nowait(seconds)
        await passing.get()

    watching = asyncio.create_task(sockets.watch(sleep))

    async def seconds(count: int) -> None:
        for _ in range(count):
            assert await slept.get() == 1.0
            passing.put_nowait(0.0)

    early = opened(sockets, 2)
    await seconds(PING_SECONDS // 2)
    late = opened(sockets, 2)
    await seconds(PING_SECONDS)
    await slept.get()
    slept.put_nowait(1.0)
    assert [each.pings for each in early + late] == [1, 1, 1, 1]
    early[0].there = late[0].there = False
    await seconds(PING_SECONDS)
    await slept.get()
    assert [each.aborted for each in early + late] == [True, False, True, False]
    assert len(sockets) == 2
    watching.cancel()


async def test_a_stop_closes_sockets_one_after_the_other_and_spreads_their_return(sockets: Sockets) -> None:
    made = opened(sockets, 50)
    async with counted_turns():
        await sockets.drain(0.5)
    assert all(isinstance(each.errors[0], ShuttingDown) and not each.aborted for each in made)
    assert len({each.turn for each in made}) > 5, "all at once"
    assert len({str(each.errors[0]) for each in made}) > 5, "all would come back at once"
    with pytest.raises(ShuttingDown):
        sockets.admit()


class Stubborn(Socket):
    """Does not go when it is told to."""

    def fail(self, error: Exception) -> None:
        self.errors.append(error)


async def test_a_stop_drops_who_does_not_go(sockets: Sockets) -> None:
    stubborn = Stubborn(sockets)
    sockets.add(stubborn)
    await sockets.drain(0.0)
    assert stubborn.errors
    assert stubborn.aborted
    assert not len(sockets)


def test_who_holds_something_longest_makes_room_for_the_others(sockets: Sockets) -> None:
    holders = opened(sockets, HELD_FACTOR)
    for each in holders:
        sockets.hold(each, LARGEST)
    newcomer = opened(sockets, 1)[0]
    sockets.hold(newcomer, 1)
    assert isinstance(holders[0].errors[0], Overloaded)
    assert not any(each.errors for each in (*holders[1:], newcomer))
    sockets.hold(newcomer, LARGEST)
    assert [bool(each.errors) for each in holders] == [True] + [False] * (HELD_FACTOR - 1)
    sockets.hold(newcomer, 2 * LARGEST)
    assert [bool(each.errors) for each in holders] == [True] * 2 + [False] * (HELD_FACTOR - 2)


def test_many_who_hold_a_little_make_room_too(sockets: Sockets) -> None:
    holders = opened(sockets, MOST // 10)
    for each in holders:
        sockets.hold(each, 10)
    newcomer = opened(sockets, 1)[0]
    sockets.hold(newcomer, LARGEST)
    assert sum(bool(each.errors) for each in holders) == LARGEST // 10
    assert not newcomer.errors


def test_who_holds_nothing_for_a_moment_begins_anew(sockets: Sockets) -> None:
    busy, *holders = opened(sockets, HELD_FACTOR)
    for each in (busy, *holders):
        sockets.hold(each, LARGEST)
    sockets.hold(busy, 0)
    sockets.hold(busy, LARGEST)
    sockets.hold(opened(sockets, 1)[0], 1)
    assert not busy.errors
    assert holders[0].errors


def test_who_is_gone_holds_nothing(sockets: Sockets) -> None:
    for _ in range(3 * HELD_FACTOR):
        each = opened(sockets, 1)[0]
        sockets.hold(each, LARGEST)
        each.abort()
        assert not each.errors
