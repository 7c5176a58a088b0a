"""The commonest bytes of Yjs updates, read by compiled regular expressions: several times as fast as byte by byte.

Whatever is not recognised here, right or wrong, is left to `crdt.walk`, which would give the same answer for all of it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from crdt.coding import MAX_CLIENT, Reader
from crdt.info import UpdateInfo

_CLIENT = rb"([\x80-\xff]{0,7}[\x00-\x7f])"
_CLOCK = rb"([\x80-\xff]{0,3}[\x00-\x7f])"
_ID = _CLIENT + _CLOCK

_lone_text = re.compile(rb"\x01\x01" + _ID + rb"(?:\xc4" + _ID + rb"|[\x84\x44])" + _ID + rb"([\x01-\x7f])", re.DOTALL).match
"""An update of one section with one text struct: client, clock, one origin (where there are two), the other, size."""

_lone_deletion = re.compile(rb"\x00\x01" + _CLIENT + rb"\x01" + _CLOCK + rb"([\x01-\x7f])", re.DOTALL).fullmatch
"""An update that deletes one short range: client, clock, length."""

text_or_deleted = re.compile(rb"(?:[\xc4\xc1]" + _ID + rb"|[\x84\x81\x44\x41])" + _ID + _CLOCK, re.DOTALL).match
"""A struct of text, or of something deleted, beside another: one origin (where there are two), the other, length."""


def clock(coded: bytes) -> int:
    """A clock of at most 4 bytes."""
    size = len(coded)
    if size == 1:
        return coded[0]
    if size == 2:
        return coded[0] & 0x7F | coded[1] << 7
    value = coded[0] & 0x7F | (coded[1] & 0x7F) << 7
    return value | coded[2] << 14 if size == 3 else value | (coded[2] & 0x7F) << 14 | coded[3] << 21


@lru_cache(maxsize=4096)
def client(coded: bytes) -> int:
    """A client id; remembered, since a few clients write most updates.

    Raises `Malformed`.
    """
    return Reader(coded).uint(MAX_CLIENT)


def plain_info(update: bytes) -> UpdateInfo | None:
    """What the walk would say of an update that inserts one short ASCII text, or deletes one short range; else None.

    Raises `Malformed`.
    """
    if match := _lone_text(update):
        author, start, other, other_clock, neighbour, neighbour_clock, size = match.groups()
        text = update[match.end() : -1]
        if len(text) != size[0] or update[-1] or not text.isascii():
            return None
        me = client(author)
        first = clock(start)
        needs = {me: first} if first else {}
        if other is not None:
            origin = client(other)
            known = clock(other_clock) + 1
            if known > needs.get(origin, 0):
                needs[origin] = known
        origin = client(neighbour)
        known = clock(neighbour_clock) + 1
        if known > needs.get(origin, 0):
            needs[origin] = known
        if needs.get(me, 0) != first:
            return None
        return UpdateInfo({me: (first, first + len(text))}, needs, False)
    if match := _lone_deletion(update):
        author, start, size = match.groups()
        return UpdateInfo({}, {client(author): clock(start) + size[0]}, True)
    return None


def insert_text(update: bytes, clocks: dict[int, int]) -> bool:
    """Whether the update does nothing but insert one short ASCII text, new and with its causes, where `clocks` are known.

    If so, the clocks include it from here on; else nothing is said about the update. Nearly every edit of a text that
    reaches a server is such an insertion.
    """
    match = _lone_text(update)
    if match is None:
        return False
    author, start, other, other_clock, neighbour, neighbour_clock, size = match.groups()
    text = update[match.end() : -1]
    length = len(text)
    if length != size[0] or update[-1] or not text.isascii():
        return False
    try:
        me = client(author)
        begin = clock(start)
        if (
            clocks.get(me, 0) != begin
            or clocks.get(client(neighbour), 0) <= clock(neighbour_clock)
            or (other is not None and clocks.get(client(other), 0) <= clock(other_clock))
        ):
            return False
    except ValueError:
        return False
    clocks[me] = begin + length
    return True
