"""The commonest bytes of Yjs updates, read by compiled regular expressions: five times as fast as byte by byte.

Whatever is not recognised here, right or wrong, is left to `crdt.walk`, which would give the same answer for all of it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from crdt.coding import MAX_CLIENT, Malformed, Reader

_CLIENT = rb"([\x80-\xff]{0,7}[\x00-\x7f])"
_CLOCK = rb"([\x80-\xff]{0,3}[\x00-\x7f])"
_ID = _CLIENT + _CLOCK

lone_text = re.compile(rb"\x01\x01" + _ID + rb"(?:\xc4" + _ID + rb"|[\x84\x44])" + _ID + rb"([\x01-\x7f])", re.DOTALL).match
"""An update of one section with one text struct: client, clock, one origin (where there are two), the other, size."""

lone_deletion = re.compile(rb"\x00\x01" + _CLIENT + rb"\x01" + _CLOCK + rb"([\x01-\x7f])", re.DOTALL).fullmatch
"""An update that deletes one short range: client, clock, length."""

text_or_deleted = re.compile(
    rb"(?:[\xc4\xc1]" + _ID + rb"|[\x84\x81\x44\x41])" + _ID + _CLOCK, re.DOTALL
).match
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
