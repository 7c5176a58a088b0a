"""What a node does for its rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from crdt.presence import PresenceBudget
from sync.rooms.catch_ups import CatchUps
from sync.rooms.cursor import LogCursor
from sync.rooms.intake import Intake
from sync.rooms.pending import PendingBytes
from sync.rooms.ports import News

if TYPE_CHECKING:
    from sync.rooms.room import Room


class NodeServices(NamedTuple):
    """What a node does for its rooms."""

    schedule: Callable[[Room], None]
    """Sees to it that the room's `turn` is called."""
    lags: Callable[[Room], None]
    """Sees to it that the room's `drain` is called."""
    wake: Callable[[LogCursor], None]
    """Sees to it that the cursor's `take` is called."""
    publish: Callable[[str, News], None]
    """`Bus.publish`."""
    intake: Intake
    pending: PendingBytes
    catch_ups: CatchUps
    presence: PresenceBudget
