"""What is known of an update without a document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class UpdateInfo:
    """What an update does to the clocks.

    `inserts`: client id -> (first clock, clock after the last) of what it inserts without a hole. `needs`: client id ->
    the clock that a document must have reached for that client before; what the update brings itself is not in it.
    `deletes`: whether it has a delete set. `types`: how many nested shared types it inserts. `entangled`: whether what
    it inserts for one client may build on what it inserts for another. `has_pairs`: whether it inserts characters that
    UTF-16 codes as surrogate pairs. `copies`: for each client, how many structs only
    continue the one before, times the bytes of all; the sum of that (see `crdt.runs`).
    """

    inserts: dict[int, tuple[int, int]]
    needs: dict[int, int]
    deletes: bool
    types: int = 0
    entangled: bool = False
    has_pairs: bool = False
    copies: int = 0
