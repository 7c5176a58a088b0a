"""What a part of the server can say of itself in numbers, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """A number by its name and with what it means."""

    name: str
    """That of the metric, without the prefix that all of ours have."""
    help: str
    read: Callable[[], float]
    """What it is now. It neither raises nor waits for anything."""
    total: bool = False
    """Whether it never falls, as a count since the start does; otherwise it is a level."""
