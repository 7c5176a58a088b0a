"""Staying connected to something that may go at any time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.1, 2.0
"""Seconds between two attempts to connect, doubling from the first to the most."""

_CLOSED = "the handler is closed"
"""The end of what uvloop says of a transport that was closed."""

Came = Callable[[], None]
T = TypeVar("T")


async def answered(answer: Awaitable[T]) -> T:
    """What is answered. Raises `ConnectionError` where uvloop says with a `RuntimeError` that the connection was closed."""
    try:
        return await answer
    except RuntimeError as error:
        # There is no kind of its own for it, and another of these is a mistake of ours.
        if _CLOSED not in str(error):
            raise
        raise ConnectionError(str(error)) from error


class Connection:
    """Connects at once, and again whenever it failed, until it is closed."""

    def __init__(
        self,
        connected: Callable[[Came], Awaitable[None]],
        went: Callable[[BaseException], None],
        away: tuple[type[Exception], ...],
        pauses: tuple[float, float] = (RETRY_FIRST, RETRY_MOST),
    ) -> None:
        """`connected` connects, calls what it is given once it is, and stays until it fails. `went` is told with what.

        What is not one of `away` is a mistake of ours: it is logged besides, and ends nothing. `pauses` are the shortest
        and the longest between two attempts, in seconds.
        """
        self._connected = connected
        self._went = went
        self._away = away
        self._pauses = pauses
        self._pause = pauses[0]
        self._closing = False
        self._task = asyncio.get_running_loop().create_task(self._stay())

    @property
    def kept(self) -> bool:
        """Whether it is connected, or will be when that is possible."""
        return not self._task.done()

    @property
    def closing(self) -> bool:
        """Whether it was closed. Loops inside end by this too: drivers lose a cancellation now and then."""
        return self._closing

    async def close(self, seconds: float | None = None) -> None:
        """Connect no more, and return when what there was has ended, or after so many seconds. Idempotent."""
        self._closing = True
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=seconds)

    async def _stay(self) -> None:
        while True:
            try:
                await self._connected(self._came)
            except* self._away as group:
                self._went(_first(group))
            except* Exception as group:
                log.exception("a connection ended by a mistake of ours, it is made anew", exc_info=group)
                self._went(_first(group))
            # A failure while the task is cancelled hides that it was: TaskGroup raises one of the two.
            if self._closing:
                break
            await asyncio.sleep(self._pause)
            self._pause = min(self._pauses[1], self._pause * 2)

    def _came(self) -> None:
        self._pause = self._pauses[0]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
