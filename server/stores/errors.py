"""What can be wrong with a store before it is open."""

from __future__ import annotations

from pathlib import Path

from sync.rooms.errors import RoomError


class StoreUnusable(RoomError):
    """The store cannot be opened here, and trying again does not help. `place` is its file, or its address without secrets."""

    code = "store-unusable"

    def __init__(self, place: Path | str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
