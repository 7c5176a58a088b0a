"""Answers that lose cancellations, as drivers do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Stubborn:
    """`answered` gives what is answered, once `gate` is set, whoever cancels meanwhile."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        """Set once something waits for the gate."""

    async def answered(self, answer: Awaitable[T]) -> T:
        """See the class. Raises what `answer` does."""
        waiting = asyncio.ensure_future(self._late(answer))
        while not waiting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(waiting)
        return waiting.result()

    async def _late(self, answer: Awaitable[T]) -> T:
        given = await answer
        if not self.gate.is_set():
            self.asked.set()
            await self.gate.wait()
        return given


async def lose_the_cancellation(stubborn: Stubborn, closing: Awaitable[None], patience: float) -> None:
    """Close while something waits for the gate, then open it, and return when that has ended. Raises `TimeoutError`."""
    async with asyncio.timeout(patience):
        await stubborn.asked.wait()
    task = asyncio.ensure_future(closing)
    # Longer than a bus waits for its last news, so that the cancellation comes before the answer.
    await asyncio.wait({task}, timeout=1)
    stubborn.gate.set()
    async with asyncio.timeout(patience):
        await task
