"""How a revocation is written in Redis: its key as a member of a sorted set, its time as the score, both in a message."""

from __future__ import annotations

import struct

from server.access.revocations import Kind, Revocation, is_revocation

_TIME = struct.Struct(">d")
_KINDS = {kind.value: kind for kind in Kind}


class MalformedRevocation(Exception):
    """What Redis has is no revocation of a node's."""


def encode_message(revocation: Revocation) -> bytes:
    """8 bytes of time, then the member."""
    return _TIME.pack(revocation.at) + revocation.key.encode()


def decode_message(data: bytes, now: float) -> Revocation:
    """What `encode_message` wrote. Raises `MalformedRevocation`."""
    if len(data) < _TIME.size:
        raise MalformedRevocation("too short")
    return decode_member(data[_TIME.size :], _TIME.unpack_from(data)[0], now)


def decode_member(member: bytes, score: float, now: float) -> Revocation:
    """A member of the sorted set and its score. Raises `MalformedRevocation`."""
    try:
        key = member.decode()
    except UnicodeDecodeError:
        raise MalformedRevocation("not UTF-8") from None
    kind = _KINDS.get(key[:1])
    if kind is None:
        raise MalformedRevocation("neither a subject nor a token")
    revocation = Revocation(kind, key[1:], score)
    if not is_revocation(revocation, now):
        raise MalformedRevocation("a name that no token has, or a time that cannot be")
    return revocation
