"""Whether the store does what a node asks of it."""

from __future__ import annotations

import logging
from enum import Enum

log = logging.getLogger(__name__)


class Asked(Enum):
    """What a node asks of its store all the time, and what the log says when that fails."""

    APPEND = "store unavailable, edits wait"
    POLL = "store not polled"
    CHECK = "store cannot be written to"


class StoreHealth:
    """What failed when it was asked last.

    Each kind of question counts on its own: a full disk answers polls, and takes no edits. The log has one line for each that
    begins to fail, and one when none does any more.
    """

    def __init__(self) -> None:
        self._failing: set[Asked] = set()

    @property
    def healthy(self) -> bool:
        """Whether nothing failed last."""
        return not self._failing

    def failing(self, asked: Asked) -> bool:
        """Whether this failed last."""
        return asked in self._failing

    def failed(self, asked: Asked, reason: str) -> None:
        """It was asked, and the store did not do it."""
        if asked not in self._failing:
            log.error(asked.value, extra={"reason": reason})
        self._failing.add(asked)

    def answered(self, asked: Asked) -> None:
        """It was asked, and the store did it."""
        if asked in self._failing:
            self._failing.remove(asked)
            if not self._failing:
                log.info("store available again")
