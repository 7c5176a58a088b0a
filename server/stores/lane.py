"""A thread of one's own for blocking calls: they run one after another, in the order they were asked for.

A thread with a queue hands a call over for less than an executor does, and keeps a connection on one thread. Results
that are ready while the loop is busy reach it in one wake-up.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any] | None"]


class Lane:
    """Runs calls on one thread. Made and used on one event loop; `close` must be awaited to end the thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._announced = False
        self.pending = 0
        # A daemon: a process that ends without `close` must not wait for it. That is no worse than a kill.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Queue `call(*args)`. It runs to its end even when the future is cancelled."""
        future: asyncio.Future[T] = self._loop.create_future()
        self.pending += 1
        self._jobs.put((call, args, future))
        return future

    def post(self, call: Callable[[], None]) -> None:
        """From any thread: queue a call that nobody waits for and that raises nothing."""
        self._jobs.put((call, (), None))

    async def close(self) -> None:
        """Wait for everything queued, then end the thread. Nothing may be queued afterwards."""
        ended = self.run(lambda: None)
        self._jobs.put(None)
        await asyncio.shield(ended)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, args, future = job
            if future is None:
                call()
                continue
            try:
                self._done.append((future, call(*args), None))
            except BaseException as error:  # whatever it was, it belongs to the waiting caller
                self._done.append((future, None, error))
            del job, call, args, future
            self._announce()

    def _announce(self) -> None:
        if self._announced:
            return
        self._announced = True
        with suppress(RuntimeError):  # the loop is closed: nobody is left who could wait
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Before the first look: a result that arrives after the last one is then announced anew.
        self._announced = False
        while self._done:
            future, result, error = self._done.popleft()
            self.pending -= 1
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
