"""WebSocket framing of what the server sends (RFC 6455, section 5.2).

A message to many peers is framed once and the same bytes are written to each, so frames are built here and not by the
WebSocket library of each connection.
"""

from __future__ import annotations

_FIN_BINARY = 0x82
_SHORT = tuple(bytes([_FIN_BINARY, length]) for length in range(126))
_MEDIUM = bytes([_FIN_BINARY, 126])
_LONG = bytes([_FIN_BINARY, 127])


def binary(payload: bytes) -> bytes:
    """`payload` as one unfragmented, unmasked, uncompressed binary frame."""
    length = len(payload)
    if length < 126:
        return _SHORT[length] + payload
    if length < 0x10000:
        return b"%b%b%b" % (_MEDIUM, length.to_bytes(2, "big"), payload)
    return b"%b%b%b" % (_LONG, length.to_bytes(8, "big"), payload)
