"""Brings a room's document into memory: with its first use, and again after it had left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sync.rooms.cursor import LogCursor
from sync.rooms.errors import DocumentUnreadable, RoomError, StoreUnavailable

log = logging.getLogger(__name__)

LOAD_AGAIN = 0.05
"""Seconds until a document that could not be loaded is tried again, doubling to 2."""


class Loading:
    """Loads the document of one cursor, for all who want it at once.

    Whoever was in the room before the document left memory waits for a store that is away; the others are told.
    """

    __slots__ = ("_came", "_left_at", "_log", "_loop", "_task")

    def __init__(self, cursor: LogCursor, loop: asyncio.AbstractEventLoop, came: Callable[[bytes | None], None]) -> None:
        """`came` is called each time that the document is there; when it cannot be loaded, the cursor fails.

        It is given the state vector at which the document had left, if peers stayed then and others appended since.
        """
        self._log = cursor
        self._loop = loop
        self._came = came
        self._left_at: bytes | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether the store is being asked."""
        return self._task is not None

    def begin(self) -> None:
        """Begin, unless that was done."""
        if self._task is None:
            self._task = self._loop.create_task(self._load())

    async def ended(self) -> None:
        """Begin if need be, and return when the document is there or the cursor has failed."""
        self.begin()
        assert self._task is not None
        await asyncio.shield(self._task)

    def left(self, state_vector: bytes) -> None:
        """The document leaves memory, while peers that stay in the room have all up to `state_vector`."""
        self._left_at = state_vector

    def cancel(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _load(self) -> None:
        try:
            moved = await self._moved()
        except RoomError as error:
            self._log.fail(error)
        except Exception:
            log.exception("document not loaded", extra={"document": self._log.name})
            self._log.fail(DocumentUnreadable("the server made an error while loading the document"))
        else:
            left_at, self._left_at = self._left_at, None
            self._came(left_at if moved else None)
        finally:
            self._task = None

    async def _moved(self) -> bool:
        """`LogCursor.load`, again and again while the store is away and peers wait who were there before."""
        delay = LOAD_AGAIN
        while True:
            try:
                return await self._log.load()
            except StoreUnavailable as error:
                if self._left_at is None:
                    raise
                log.warning("document not loaded yet", extra={"document": self._log.name, "reason": error.reason})
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)
