"""How a revocation is written: its key as one text, its time beside it, and both in one message."""

from __future__ import annotations

import struct

from server.access.revocations import Kind, Revocation, is_revocation

_TIME = struct.Struct(">d")
_KINDS = {kind.value: kind for kind in Kind}


class MalformedRevocation(Exception):
    """What was read is no revocation that a node wrote."""


def encode_message(revocation: Revocation) -> bytes:
    """8 bytes of time, then the key in UTF-8."""
    return _TIME.pack(revocation.at) + revocation.key.encode()


def decode_message(data: bytes, now: float) -> Revocation:
    """What `encode_message` wrote. Raises `MalformedRevocation`."""
    if len(data) < _TIME.size:
        raise MalformedRevocation("too short")
    return decode(data[_TIME.size :], _TIME.unpack_from(data)[0], now)


def decode(member: bytes, at: float, now: float) -> Revocation:
    """The revocation with this key, in UTF-8, and this time. Raises `MalformedRevocation`."""
    try:
        key = member.decode()
    except UnicodeDecodeError:
        raise MalformedRevocation("not UTF-8") from None
    kind = _KINDS.get(key[:1])
    if kind is None:
        raise MalformedRevocation("neither a subject nor a token")
    revocation = Revocation(kind, key[1:], at)
    if not is_revocation(revocation, now):
        raise MalformedRevocation("a name that no token has, or a time that cannot be")
    return revocation
