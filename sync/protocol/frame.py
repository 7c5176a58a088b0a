"""WebSocket framing of what the server sends (RFC 6455, section 5.2).

A message to many peers is framed once and the same bytes are written to each, so frames are built here and not by the
WebSocket library of each connection.
"""

from __future__ import annotations

from enum import IntEnum

CLOSE_REASON_BYTES = 123
"""What fits into a close frame beside the code (RFC 6455, section 5.5)."""

_FIN = 0x80


class Opcode(IntEnum):
    """The kinds of frames that the RFC knows."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_SHORT = tuple(bytes([_FIN | Opcode.BINARY, length]) for length in range(126))
_MEDIUM = bytes([_FIN | Opcode.BINARY, 126])
_LONG = bytes([_FIN | Opcode.BINARY, 127])


def binary(payload: bytes) -> bytes:
    """`payload` as one unfragmented, unmasked, uncompressed binary frame."""
    length = len(payload)
    if length < 126:
        return _SHORT[length] + payload
    if length < 0x10000:
        return b"%b%b%b" % (_MEDIUM, length.to_bytes(2, "big"), payload)
    return b"%b%b%b" % (_LONG, length.to_bytes(8, "big"), payload)


def control(opcode: Opcode, payload: bytes = b"") -> bytes:
    """A ping, pong or close frame; `payload` has at most 125 bytes."""
    return bytes([_FIN | opcode, len(payload)]) + payload


def close(code: int, reason: str) -> bytes:
    """A close frame. Of a reason that is too long as many whole characters go as fit."""
    text = reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore").encode()
    return control(Opcode.CLOSE, code.to_bytes(2, "big") + text)
