"""The thread that a connection lives on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from server.stores.lane import Lane


async def test_calls_run_in_order_on_one_thread() -> None:
    lane = Lane("test")
    ran: list[int] = []
    threads: set[int] = set()

    def call(number: int) -> int:
        ran.append(number)
        threads.add(threading.get_ident())
        return -number

    futures = [lane.run(call, number) for number in range(500)]
    lane.post(lambda: ran.append(500))
    assert await asyncio.gather(*futures) == [-number for number in range(500)]
    await lane.close()
    assert ran == list(range(501))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert lane.pending == 0


async def test_an_error_reaches_its_caller_alone() -> None:
    lane = Lane("test")
    before, broken, after = lane.run(int, "1"), lane.run(int, "x"), lane.run(int, "2")
    assert await before == 1
    with pytest.raises(ValueError, match="invalid literal"):
        await broken
    assert await after == 2
    await lane.close()


async def test_a_call_that_nobody_waits_for_any_more_still_runs() -> None:
    lane = Lane("test")
    gate, ran = threading.Event(), threading.Event()
    lane.run(gate.wait)
    forgotten = lane.run(ran.set)
    forgotten.cancel()
    gate.set()
    await lane.close()
    assert ran.is_set()
    assert forgotten.cancelled()


async def test_closing_ends_the_thread() -> None:
    lane = Lane("ends-with-the-lane")
    await lane.close()
    for thread in threading.enumerate():
        if thread.name == "ends-with-the-lane":
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
