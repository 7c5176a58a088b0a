"""What a node holds of the large frames that bring peers up to date."""

from __future__ import annotations

from sync.rooms.ports import Outlet

LARGE = 64 << 10
"""Bytes from which a frame counts."""


class CatchUps:
    """The large frames on their way to transports that have not taken all of them yet, each counted once.

    Who joins a document of 64 MiB and does not read keeps that much in memory. So only so many bytes are on their way at a
    time, and whoever comes then waits until others have taken theirs.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        # By identity: comparing frames of many MiB would cost more than they do.
        self._frames: dict[int, tuple[bytes, list[Outlet]]] = {}

    def admits(self, size: int) -> bool:
        """Whether a further frame of about `size` bytes may be made. One is admitted always."""
        return size < LARGE or not self._held or self._held + size <= self._most

    def hold(self, frame: bytes, outlet: Outlet) -> None:
        """Count `frame`, which was written to `outlet`."""
        if len(frame) < LARGE or not outlet.backlog():
            return
        if id(frame) not in self._frames:
            self._frames[id(frame)] = frame, []
            self._held += len(frame)
        self._frames[id(frame)][1].append(outlet)

    def prune(self) -> None:
        """Forget what was taken."""
        for key, (frame, outlets) in list(self._frames.items()):
            outlets[:] = [outlet for outlet in outlets if outlet.backlog()]
            if not outlets:
                del self._frames[key]
                self._held -= len(frame)
