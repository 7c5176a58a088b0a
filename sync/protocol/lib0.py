"""The variable-length coding of lib0, in which every message is written.

Integers are little-endian groups of 7 bits, the high bit saying that more follow (lib0 `writeVarUint`). Strings and
byte arrays are preceded by their length in *bytes* (`writeVarString`, `writeVarUint8Array`). Readers take a position
and return the value with the position behind it; they raise `TruncatedMessage`, `OverlongInteger`, `IntegerOutOfRange`
or `InvalidText`.
"""

from __future__ import annotations

from typing import Final

from sync.protocol.errors import IntegerOutOfRange, InvalidText, OverlongInteger, TruncatedMessage

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that JavaScript represents exactly; lib0 refuses to read a larger one."""

_MAX_BITS = 70
_ONE_BYTE: Final = tuple(bytes([value]) for value in range(0x80))


def read_var_uint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at`, 0 to 2**53 - 1. Leading zero groups are read, as lib0 does, up to 10 bytes in all."""
    value = shift = 0
    end = len(data)
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_INTEGER:
                raise IntegerOutOfRange
            return value, at
        shift += 7
        if shift == _MAX_BITS:
            raise OverlongInteger
    raise TruncatedMessage


def read_var_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """The byte array at `at`."""
    length, start = read_var_uint(data, at)
    end = start + length
    if end > len(data):
        raise TruncatedMessage
    return data[start:end], end


def read_var_string(data: bytes, at: int) -> tuple[str, int]:
    """The string at `at`."""
    encoded, end = read_var_bytes(data, at)
    try:
        return encoded.decode(), end
    except UnicodeDecodeError:
        raise InvalidText from None


def write_var_uint(value: int) -> bytes:
    """`value` encoded; the caller keeps it within 0 to 2**53 - 1."""
    if value < 0x80:
        return _ONE_BYTE[value]
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def write_var_bytes(value: bytes) -> bytes:
    """`value` behind its length."""
    return write_var_uint(len(value)) + value


def write_var_string(value: str) -> bytes:
    """`value` in UTF-8 behind its length in bytes; the caller passes no lone surrogates."""
    return write_var_bytes(value.encode())
