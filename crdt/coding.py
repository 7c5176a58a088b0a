"""The lib0 coding of integers and text, read within bounds.

Source of the format: lib0's `encoding.js` and `decoding.js`. A varUint holds 7 bits a byte, low bits first.
"""

from __future__ import annotations

MAX_CLOCK = 2**31 - 1
"""The highest clock, and the longest run, that is taken: yrs adds clocks as u32 and compares them as i32."""

MAX_CLIENT = 2**53 - 1
"""The highest client id: what a JavaScript number holds exactly."""


class Malformed(ValueError):
    """The bytes do not decode. Internal to this package: each public function turns it into its own named error."""


def write_uint(value: int) -> bytes:
    """`value` (0 or more) as a varUint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """A position in `data`; every method reads forward and raises `Malformed` instead of going beyond the end."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data)

    def byte(self) -> int:
        """The next byte."""
        pos = self.pos
        if pos >= self.end:
            raise Malformed("it ends in the middle")
        self.pos = pos + 1
        return self.data[pos]

    def uint(self, limit: int) -> int:
        """A varUint of at most `limit`."""
        value = self.byte()
        if value > 0x7F:
            value &= 0x7F
            shift = 7
            while True:
                byte = self.byte()
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > 49:
                    raise Malformed("an integer is longer than 53 bits")
        if value > limit:
            raise Malformed(f"a number is {value}, above the bound of {limit}")
        return value

    def count(self, least: int) -> int:
        """How many things follow, each of at least `least` bytes: never more than the bytes that are left can hold."""
        value = self.uint(MAX_CLOCK)
        if value * least > self.end - self.pos:
            raise Malformed("it announces more than it holds")
        return value

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        pos = self.pos
        if size > self.end - pos:
            raise Malformed("it ends in the middle")
        self.pos = pos + size
        return self.data[pos : pos + size]

    def text(self) -> str:
        """A varString: a length in bytes and as many bytes of UTF-8."""
        return decode(self.take(self.uint(MAX_CLOCK)))


def decode(text: bytes) -> str:
    """Strict UTF-8.

    Raises `Malformed`.
    """
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text is not UTF-8") from error
