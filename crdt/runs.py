"""Structs that only continue the one before, as when typed letters were merged without a document.

At the end of a transaction yrs joins such structs from the last to the first, copies what it has joined so far each time, and
frees the copies only afterwards: 40,000 letters take a gigabyte, and as many numbers in an array more than a machine has. So
they are joined before yrs sees them. To join is exactly the reverse of what Yjs does when it splits an item
(`structs/Item.js`, `splitItem`), so the update means the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from crdt.coding import MAX_CLOCK, Malformed, Reader, write_uint
from crdt.errors import MalformedUpdate
from crdt.walk import ANY, STRING, Walk

COPIED = 1 << 20
"""How much joining may copy in one transaction, in structs times bytes."""


class _Run(NamedTuple):
    """Structs that can be one: where the first begins, where its coded size does, what it stands before, and their contents."""

    kind: int
    begin: int
    size_at: int
    precedes: tuple[int, int] | None
    contents: list[tuple[int, bytes]]


class _RunWalk(Walk):
    """Notes what to write instead of which bytes, in their order."""

    __slots__ = ("_joined", "_origin", "_right", "_run", "_run_end", "_size_at", "changes")

    def __init__(self, update: bytes) -> None:
        super().__init__(update)
        self.changes: list[tuple[int, int, bytes]] = []
        self._run: _Run | None = None
        self._run_end = self._size_at = self._joined = 0
        self._origin: tuple[int, int] | None = None
        self._right: tuple[int, int] | None = None

    def section(self) -> None:
        """See `Walk.section`; counts its structs anew."""
        begin = self.pos
        count = self.count(2)
        end, self.pos = self.pos, begin
        place, self._joined = len(self.changes), 0
        super().section()
        self._finish()
        if self._joined:
            self.changes.insert(place, (begin, end, write_uint(count - self._joined)))

    def follows(self, client: int, clock: int) -> None:
        """See `Walk.follows`."""
        super().follows(client, clock)
        self._origin = client, clock

    def precedes(self, client: int, clock: int) -> None:
        """The struct at hand stands before that id."""
        self.builds_on(client, clock)
        self._right = client, clock

    def plain_item(self, match: re.Match[bytes]) -> int:
        """See `Walk.plain_item`."""
        self._origin = self._right = None
        length = super().plain_item(match)
        self._add(self.data[match.start()] & 0x1F, match.start(), match.start(5))
        return length

    def item(self, info: int) -> int:
        """See `Walk.item`."""
        begin = self.pos - 1
        self._origin = self._right = None
        length = super().item(info)
        self._add(info & 0x1F, begin, self._size_at)
        return length

    def content(self, kind: int) -> int:
        """See `Walk.content`."""
        self._size_at = self.pos
        return super().content(kind)

    def _add(self, kind: int, begin: int, size_at: int) -> None:
        """The struct from `begin` to here was walked."""
        run = self._run
        if kind not in (STRING, ANY):
            self._finish()
            return
        reader = Reader(self.data, size_at)
        content = reader.uint(MAX_CLOCK), self.data[reader.pos : self.pos]
        if (
            run is not None
            and self._run_end == begin
            and run.kind == kind
            and run.precedes == self._right
            and self._origin == (self.client, self.clock - 1)
        ):
            run.contents.append(content)
        else:
            self._finish()
            self._run = _Run(kind, begin, size_at, self._right, [content])
        self._run_end = self.pos

    def _finish(self) -> None:
        run, self._run = self._run, None
        if run is not None and len(run.contents) > 1:
            size = write_uint(sum(size for size, _ in run.contents))
            self.changes.append((run.size_at, self._run_end, b"".join((size, *[coded for _, coded in run.contents]))))
            self._joined += len(run.contents) - 1


def join_runs(update: bytes) -> bytes:
    """The same update with as few structs as possible; the same object where there is nothing to join.

    Raises `MalformedUpdate`.
    """
    walk = _RunWalk(update)
    try:
        walk.run()
    except Malformed as error:
        raise MalformedUpdate(str(error)) from error
    if not walk.changes:
        return update
    parts: list[bytes] = []
    done = 0
    for begin, end, instead in walk.changes:
        parts += (update[done:begin], instead)
        done = end
    return b"".join((*parts, update[done:]))
