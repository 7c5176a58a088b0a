"""What the server asks of a bus beside what the rooms do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.figures import Figure
from sync.rooms.ports import Bus

DROPPED = "News that could not be sent; other nodes find it in the store."
"""What `bus_dropped` means, of whichever bus."""


class NodeBus(Bus, Protocol):
    """A node's end of a bus."""

    def figures(self) -> Sequence[Figure]:
        """How it does: the same figures with every call, each with a name of its own on this node."""
        ...
