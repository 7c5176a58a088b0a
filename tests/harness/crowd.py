"""Some who work on servers at the same time, and waits that end when one of them fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds until what does not come counts as never coming."""

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""What one of them does, until cancelled: edits until the event is set, and from then on takes part and writes no more."""


class Crowd:
    """A task for each of them. An async context manager: they work inside, and its end raises what one of them raised."""

    def __init__(self, works: Iterable[Work], state: Callable[[], str]) -> None:
        """`state` says how far everybody is, for who reads why a wait was given up."""
        self._works = list(works)
        self._state = state
        self._no_more = asyncio.Event()
        self._stopped = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for work in self._works:
            self.join(work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(end, Exception):
                raise end

    def join(self, work: Work) -> None:
        """One more works from now on."""
        self._tasks.append(asyncio.create_task(work(self._no_more)))

    def write_no_more(self) -> None:
        """Everybody who writes stops. Once."""
        self._no_more.set()
        self._stopped = time.monotonic()

    def since_the_last_edit(self) -> float:
        """Seconds since they were told to write no more."""
        assert self._no_more.is_set()
        return time.monotonic() - self._stopped

    async def until(self, true: Callable[[], bool], what: str, pause: float = 0.02) -> None:
        """Return when it is true. Raises `AssertionError`, with the state of all, when that takes longer than patience
        lasts, and what one of them raised meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} in {PATIENCE:g} s:\n{self._state()}")
            await asyncio.sleep(pause)
