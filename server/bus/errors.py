"""What can be wrong with a bus before it is open."""

from __future__ import annotations

from sync.rooms.errors import RoomError


class BusUnusable(RoomError):
    """The bus cannot be used as it is configured, and trying again does not help. `place` is its address without secrets."""

    code = "bus-unusable"

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
