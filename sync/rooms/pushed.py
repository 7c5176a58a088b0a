"""What an offline queue brings for one document, and how its room takes it: in pieces, with patience for what is expensive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from crdt.errors import MissingCauses, TooManyCuts
from sync.rooms.errors import Overloaded
from sync.rooms.intake import Intake, Outcome
from sync.rooms.pending import PendingBytes

if TYPE_CHECKING:
    from sync.rooms.room import Room

SLICE = 200
"""Pushed entries applied before everybody else has a turn."""


class Pushed(NamedTuple):
    """Updates of one author and device, each with the lineage of the client's copy, or None where it does not know."""

    updates: Sequence[bytes]
    author: str
    device: str
    lineages: Sequence[str | None]

    def some(self, indices: Sequence[int]) -> Pushed:
        """Those with these places."""
        return self._replace(updates=[self.updates[i] for i in indices], lineages=[self.lineages[i] for i in indices])


async def take(room: Room, pushed: Pushed, intake: Intake, pending: PendingBytes, patience: float) -> list[Outcome]:
    """Apply all in order; an outcome for each. The caller pins the room. While `pending` is full, what is left waits.

    Edits that cut characters are tried again when the `intake` takes such edits, for up to `patience` seconds; what waits then
    is answered with `Overloaded`, and so is what came after it and may build on it. Raises `RoomError` when the document cannot
    be loaded.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    outcomes: dict[int, Outcome] = {}
    waiting: Sequence[int] = range(len(pushed.updates))
    while waiting:
        for start in range(0, len(waiting), SLICE):
            if start:
                await asyncio.sleep(0)
            piece = waiting[start : start + SLICE]
            outcomes.update(zip(piece, await _apply(room, pushed.some(piece), pending), strict=True))
        waiting = _put_off(outcomes)
        pause = intake.pause
        if waiting and loop.time() + pause > until:
            busy = Overloaded("too many edits cut a character in two; send this one again in a moment")
            outcomes.update(dict.fromkeys(waiting, busy))
            break
        if waiting:
            await asyncio.sleep(pause)
    return [outcomes[index] for index in range(len(pushed.updates))]


async def _apply(room: Room, pushed: Pushed, pending: PendingBytes) -> list[Outcome]:
    await room.loaded()
    await pending.admit()
    # The room may have failed while we waited; otherwise this returns at once.
    await room.loaded()
    outcomes = room.apply(pushed)
    missing = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, MissingCauses)]
    if missing:
        # Their causes may have become durable through another node, of which this one has not heard yet.
        await room.log.catch_up()
        await room.loaded()
        for index, outcome in zip(missing, room.apply(pushed.some(missing)), strict=True):
            outcomes[index] = outcome
    return outcomes


def _put_off(outcomes: Mapping[int, Outcome]) -> list[int]:
    """Which updates to try again: those that cut characters, and those behind the first that may build on one of them."""
    first = min((index for index, outcome in outcomes.items() if isinstance(outcome, TooManyCuts)), default=None)
    if first is None:
        return []
    return sorted(i for i, outcome in outcomes.items() if i >= first and isinstance(outcome, TooManyCuts | MissingCauses))
