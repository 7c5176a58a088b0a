"""Which ids an update deletes."""

from __future__ import annotations

from bisect import bisect_right

from crdt.walk import Walk


class DeletionWalk(Walk):
    """Notes the deleted ranges; neighbouring ones become one."""

    __slots__ = ("ranges",)

    def __init__(self, update: bytes) -> None:
        super().__init__(update)
        self.ranges: dict[int, tuple[list[int], list[int]]] = {}
        """Client id -> starts and ends of ranges, in ascending order."""

    def deletes(self, client: int, start: int, end: int) -> None:
        """See `Walk.deletes`."""
        starts, ends = self.ranges.setdefault(client, ([], []))
        if ends and ends[-1] == start:
            ends[-1] = end
        else:
            starts.append(start)
            ends.append(end)


def deletes_all_of(update: bytes, other: bytes) -> bool:
    """Whether `update` deletes whatever `other` deletes.

    Raises `Malformed`.
    """
    ours, theirs = DeletionWalk(update), DeletionWalk(other)
    ours.run()
    theirs.run()
    for client, ranges in theirs.ranges.items():
        starts, ends = ours.ranges.get(client, ([], []))
        for start, end in zip(*ranges, strict=True):
            place = bisect_right(starts, start) - 1
            if place < 0 or ends[place] < end:
                return False
    return True
