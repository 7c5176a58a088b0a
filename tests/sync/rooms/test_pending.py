"""The count of what is not durable: exact at every look, and who waits for room is woken by who makes it."""

from __future__ import annotations

import asyncio

from sync.rooms.pending import PendingBytes
from tests.sync.rooms.kit import PATIENCE


async def test_the_limit_itself_is_not_full_and_one_byte_more_is() -> None:
    pending = PendingBytes(10)
    pending.add(10)
    assert not pending.full
    await pending.admit()
    pending.add(1)
    assert pending.full
    pending.remove(1)
    assert not pending.full


async def test_who_waits_is_admitted_one_after_another_as_room_is_made() -> None:
    pending = PendingBytes(10)
    pending.add(11)
    admitted: list[int] = []

    async def take(number: int) -> None:
        await pending.admit()
        admitted.append(number)
        pending.add(11)

    tasks = [asyncio.create_task(take(number)) for number in range(3)]
    tasks[1].cancel()
    for expected in ([], [0], [0, 2]):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert admitted == expected
        pending.remove(11)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert pending.held == 0
