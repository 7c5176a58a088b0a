"""What a room takes of the edits that reach it: what is allowed, what fits, and what the document makes of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from crdt.document import Document, Verdict
from crdt.errors import CrdtError
from crdt.updates import EMPTY_UPDATE
from sync.rooms.cuts import Cuts
from sync.rooms.errors import DocumentTooLarge, Forbidden, RoomError, UpdateTooLarge
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Grant, Peer

Outcome = Verdict | CrdtError | RoomError
"""What became of one update."""

Arrival = tuple[Peer, bytes, bool, Grant]
"""A peer, an update of its, whether that is all that the peer has beyond what we had, and what it was granted as it came."""


class Intake:
    """Applies updates to documents within a node's limits. One serves all rooms of the node."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._cuts = Cuts()

    @property
    def pause(self) -> float:
        """For how many seconds edits that cut characters are put off (see `Cuts`)."""
        return self._cuts.pause

    def arrivals(self, document: Document, arrivals: Sequence[Arrival]) -> Sequence[Outcome]:
        """Apply what peers sent, in one go; an outcome for each."""
        updates: list[bytes] = []
        size = document.size
        largest = self._limits.update_bytes
        for _, update, _, grant in arrivals:
            if not grant.can_write or len(update) > largest:
                break
            size += len(update)
            updates.append(update)
        else:
            if size <= self._limits.document_bytes:
                return self._cuts.apply(document, updates)
        forbidden = {
            index for index, arrival in enumerate(arrivals) if not arrival[3].can_write and not _is_harmless(document, arrival)
        }
        return self.updates(document, [update for _, update, _, _ in arrivals], forbidden)

    def updates(self, document: Document, updates: Sequence[bytes], forbidden: set[int] | None = None) -> list[Outcome]:
        """Apply updates, in one go, but those whose index is `forbidden`; an outcome for each."""
        limits = self._limits
        refusals: dict[int, RoomError] = {}
        size = document.size
        for index, update in enumerate(updates):
            if forbidden and index in forbidden:
                refusals[index] = Forbidden("this token may read the document but not change it")
            elif len(update) > limits.update_bytes:
                refusals[index] = UpdateTooLarge(len(update), limits.update_bytes)
            else:
                size += len(update)
        allowed = [update for index, update in enumerate(updates) if index not in refusals]
        fits = size <= limits.document_bytes
        taken = self._cuts.apply(document, allowed) if fits else self._while_it_fits(document, allowed)
        outcomes = iter(taken)
        return [refusals[index] if index in refusals else next(outcomes) for index in range(len(updates))]

    def _while_it_fits(self, document: Document, updates: Sequence[bytes]) -> list[Outcome]:
        """One by one, since how much an update adds shows only when it is applied: a duplicate adds nothing."""
        limit = self._limits.document_bytes
        return [
            self._cuts.apply(document, (update,))[0] if document.fits(update, limit) else DocumentTooLarge(limit)
            for update in updates
        ]


def _is_harmless(document: Document, arrival: Arrival) -> bool:
    """Whether a reader says only what we have already; its deletions are looked up once each time that we ask for them."""
    peer, update, whole, _ = arrival
    if update == EMPTY_UPDATE:
        return True
    answers, peer.asked = peer.asked and whole, peer.asked and not whole
    try:
        return document.contains(update, deletions=answers)
    except CrdtError:
        return False
