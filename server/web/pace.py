"""How slow a peer may be: whoever sends or takes less counts as gone."""

from __future__ import annotations

PACE_SECONDS = 30.0
"""Within each span of so many seconds ..."""

PACE_BYTES = 128 << 10
"""... at least so many bytes of what is under way are to move: some 4 KB a second, which the slowest phones manage."""


class Pace:
    """Whether a transfer keeps moving. `now` is the loop's time, in seconds."""

    __slots__ = ("_moved", "deadline")

    def __init__(self, moved: int, now: float) -> None:
        self._moved = moved
        self.deadline = now + PACE_SECONDS
        """When the next `PACE_BYTES` are to have moved."""

    def move(self, moved: int, now: float) -> None:
        """`moved` bytes in all have moved by now."""
        if moved - self._moved >= PACE_BYTES:
            self._moved, self.deadline = moved, now + PACE_SECONDS
