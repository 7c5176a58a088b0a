"""Whether two encoded documents are the same: replicas cut what they hold into different structs, and that means nothing.

What follows from Yjs' `Item.mergeWith` and `splitItem`: a struct continues the one before it when its clock and its left
origin are the end of that one, and their right origins are equal. What was deleted has no content and no place any more.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping

from crdt.errors import MalformedUpdate
from crdt.walk import Walk

_DELETED, _STRING, _ANY = 1, 4, 8
_Id = tuple[int, int] | None


def same_document(first: bytes, second: bytes) -> bool:
    """Whether two updates that each encode a whole document encode the same one.

    Raises `MalformedUpdate`.
    """
    return first == second or _form(first) == _form(second)


def _form(update: bytes) -> dict[int, tuple[bytes, list[tuple[int, int]]]]:
    """Client id -> a digest of what it inserted and is there still, and the ranges of clocks that are deleted."""
    try:
        gone = _GoneWalk(update)
        gone.run()
        ranges = {client: _joined(of_client) for client, of_client in gone.gone.items()}
        walk = _FormWalk(update, ranges)
        walk.run()
    except ValueError as error:
        raise MalformedUpdate(str(error)) from error
    clients = walk.digests.keys() | ranges.keys()
    return {client: (walk.digests.get(client, b""), ranges.get(client, [])) for client in clients}


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


class _GoneWalk(Walk):
    """Notes what is deleted: in the delete set, or by its struct."""

    __slots__ = ("gone", "in_structs")

    def __init__(self, update: bytes) -> None:
        super().__init__(update)
        self.gone: dict[int, list[tuple[int, int]]] = {}
        self.in_structs = True

    def length(self) -> int:
        """See `Walk.length`: among structs, of what was collected."""
        length = super().length()
        if self.in_structs:
            self.deletes(self.client, self.clock, self.clock + length)
        return length

    def item(self, info: int) -> int:
        """See `Walk.item`."""
        length = super().item(info)
        if info & 0x1F == _DELETED:
            self.deletes(self.client, self.clock, self.clock + length)
        return length

    def plain_item(self, match: re.Match[bytes]) -> int:
        """See `Walk.plain_item`."""
        length = super().plain_item(match)
        if self.data[match.start()] & 0x1F == _DELETED:
            self.deletes(self.client, self.clock, self.clock + length)
        return length

    def delete_set(self) -> bool:
        """See `Walk.delete_set`."""
        self.in_structs = False
        return super().delete_set()

    def deletes(self, client: int, start: int, end: int) -> None:
        """See `Walk.deletes`."""
        self.gone.setdefault(client, []).append((start, end))


class _FormWalk(Walk):
    """Digests what is not `gone`. Structs of a client that continue each other count as one."""

    __slots__ = ("content_at", "digests", "gone", "hash", "left", "right", "run_end", "run_key", "text_at", "value_ends")

    def __init__(self, update: bytes, gone: Mapping[int, list[tuple[int, int]]]) -> None:
        super().__init__(update)
        self.gone = gone
        self.digests: dict[int, bytes] = {}
        self.hash = hashlib.blake2b(digest_size=16)
        self.left: _Id = None
        self.right: _Id = None
        # Where the content of the struct at hand begins, where its text does, and where each of its plain values ends.
        self.content_at = self.text_at = 0
        self.value_ends: list[int] = []
        # Of the run at hand: the clock behind it, and the kind and right origin that continue it.
        self.run_end = -1
        self.run_key: tuple[int, _Id] | None = None

    def section(self) -> None:
        """See `Walk.section`."""
        self.hash = hashlib.blake2b(digest_size=16)
        self.run_end, self.run_key = -1, None
        super().section()
        self.digests[self.client] = self.hash.digest()

    def follows(self, client: int, clock: int) -> None:
        """The struct at hand stands behind that id."""
        self.builds_on(client, clock)
        self.left = client, clock

    def precedes(self, client: int, clock: int) -> None:
        """The struct at hand stands before that id."""
        self.builds_on(client, clock)
        self.right = client, clock

    def item(self, info: int) -> int:
        """See `Walk.item`."""
        self.left = self.right = None
        head = self.pos
        length = super().item(info)
        kind = info & 0x1F
        parent = b"" if any((self.left, self.right)) else self.data[head : self.content_at]
        self.note(kind, length, parent, self.text_at if kind == _STRING else self.content_at)
        return length

    def plain_item(self, match: re.Match[bytes]) -> int:
        """See `Walk.plain_item`."""
        self.left = self.right = None
        length = super().plain_item(match)
        self.note(self.data[match.start()] & 0x1F, length, b"", match.end())
        return length

    def content(self, kind: int) -> int:
        """See `Walk.content`."""
        self.content_at = self.pos
        return super().content(kind)

    def text_length(self, text: bytes, begin: int) -> int:
        """See `Walk.text_length`."""
        self.text_at = self.pos - len(text)
        return super().text_length(text, begin)

    def values(self, count: int) -> None:
        """See `Walk.values`; one by one, to know where each ends."""
        self.value_ends = [self.pos]
        for _ in range(count):
            super().values(1)
            self.value_ends.append(self.pos)

    def note(self, kind: int, length: int, parent: bytes, begin: int) -> None:
        """The struct at hand is read; its content begins at `begin`."""
        if kind == _DELETED:
            return
        key = (kind, self.right)
        for start, end in self.living(length):
            left = self.left if start == self.clock else (self.client, start - 1)
            if not (self.run_key == key and self.run_end == start and left == (self.client, start - 1)):
                named = parent if start == self.clock else b""
                self.hash.update(repr((start, kind, left, self.right, named)).encode())
            self.hash.update(self.piece(kind, start - self.clock, end - self.clock, begin))
            self.run_end = end
            self.run_key = key if kind in (_STRING, _ANY) else None

    def living(self, length: int) -> list[tuple[int, int]]:
        """The ranges of clocks of the struct at hand that are not deleted."""
        start, stop = self.clock, self.clock + length
        gone = self.gone.get(self.client, [])
        ranges = []
        for gone_start, gone_end in gone[max(0, bisect_right(gone, (start, 0)) - 1) :]:
            if gone_start >= stop:
                break
            if gone_start > start:
                ranges.append((start, gone_start))
            start = max(start, gone_end)
        if start < stop:
            ranges.append((start, stop))
        return ranges

    def piece(self, kind: int, start: int, end: int, begin: int) -> bytes:
        """Units `start` to before `end` of the content that begins at `begin`."""
        if kind == _STRING:
            return self.data[begin : self.pos].decode().encode("utf-16-le")[2 * start : 2 * end]
        if kind == _ANY:
            return self.data[self.value_ends[start] : self.value_ends[end]]
        return self.data[begin : self.pos]
