"""The strict walk of one Yjs v1 update, byte by byte and without a document.

It runs before yrs sees the bytes, because yrs trusts them: it takes text for UTF-8 unchecked, reserves memory for any
announced count, adds clocks without a check for overflow and recurses into nested values. Source of the format: Yjs'
`utils/encoding.js`, `utils/DeleteSet.js` and `structs/*.js`.
"""

from __future__ import annotations

import math
import re

from crdt import plain
from crdt.coding import MAX_CLIENT, MAX_CLOCK, Malformed, Reader, decode
from crdt.errors import TooManyParts
from crdt.info import UpdateInfo

MAX_ANY_DEPTH = 64
"""How deep arrays and objects may be nested within one plain value; yrs recurses into them."""

MAX_PARTS = 200_000
"""Parts that an update from outside may have, since everybody else waits while they are walked: 1 to 2 us each. A struct, a
deleted range, a plain value and a character that is a pair count as one; an item that is not simply text beside text as two; a
client's section as three more."""

_GC, _DELETED, _JSON, _BINARY, STRING, _EMBED, _FORMAT, _TYPE, ANY, _DOC, _SKIP = range(11)
_HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_PARENT_SUB = 0x80, 0x40, 0x20
_SECTION_PARTS = 3

# YXmlElement carries its name. YXmlHook (5) is left out: yrs does not read the key that Yjs writes after it.
_XML_ELEMENT = 3
_PLAIN_TYPES = (0, 1, 2, 4, 6)


class Walk(Reader):
    """One pass over an update; subclasses note more on the way.

    `client` and `clock` are the id of the struct at hand. Afterwards `has_json` says that the update holds JSON text,
    which this walk does not parse, `has_pairs` that it holds characters beyond the Basic Multilingual Plane, and `copies` what
    joining its structs would cost (see `crdt.runs`).
    """

    __slots__ = ("client", "clock", "copies", "has_json", "has_pairs", "inserts", "joins", "needs", "parts_left", "types")

    def __init__(self, update: bytes, most_parts: float = math.inf) -> None:
        super().__init__(update)
        self.parts_left = most_parts
        self.copies = 0
        # How many structs of the section only continue the one before.
        self.joins = 0
        self.client = 0
        self.clock = 0
        self.inserts: dict[int, tuple[int, int]] = {}
        self.needs: dict[int, int] = {}
        self.types = 0
        self.has_json = False
        self.has_pairs = False

    def run(self) -> UpdateInfo:
        """Raises `Malformed` or `TooManyParts`."""
        sections = self.count(5)
        self.spend(sections * _SECTION_PARTS)
        for _ in range(sections):
            self.section()
        deletes = self.delete_set()
        if self.pos != self.end:
            raise Malformed("bytes follow its end")
        needs = self.needs
        entangled = False
        for client, (start, end) in self.inserts.items():
            needed = needs.get(client, 0)
            if needed > start:
                entangled = len(self.inserts) > 1
            if needed <= end:
                if start:
                    needs[client] = start
                else:
                    needs.pop(client, None)
        return UpdateInfo(self.inserts, needs, deletes, self.types, entangled, self.has_pairs, self.copies)

    def spend(self, parts: int) -> None:
        """So many parts follow. Raises `TooManyParts` before they are walked."""
        self.parts_left -= parts
        if self.parts_left < 0:
            raise TooManyParts(MAX_PARTS)

    def section(self) -> None:
        """The structs of one client, whose clocks follow each other."""
        begin, self.joins = self.pos, 0
        count = self.count(2)
        self.spend(count)
        client = self.client = self.uint(MAX_CLIENT)
        start = self.clock = self.uint(MAX_CLOCK)
        if client in self.inserts:
            raise Malformed("it has two sections for one client")
        for _ in range(count):
            if match := plain.text_or_deleted(self.data, self.pos):
                self.clock += self.plain_item(match)
                continue
            info = self.byte()
            if info == _SKIP:
                # What comes before the hole is known to any document that has reached its end.
                start = self.clock = self.clock + self.length()
            else:
                self.clock += self.length() if info == _GC else self.item(info)
        end = self.clock
        if end == start:
            raise Malformed("a section inserts nothing")
        if end > MAX_CLOCK:
            raise Malformed("a clock is out of range")
        self.inserts[client] = (start, end)
        self.copies += self.joins * (self.pos - begin)

    def length(self) -> int:
        """A length that is not 0: yrs computes `clock + length - 1`."""
        value = self.uint(MAX_CLOCK)
        if not value:
            raise Malformed("a length is 0")
        return value

    def builds_on(self, client: int, clock: int) -> None:
        """The struct at hand refers to an id."""
        if client == self.client:
            if clock >= self.clock:
                raise Malformed("a struct builds on itself or on what comes after it")
        elif clock >= self.needs.get(client, 0):
            self.needs[client] = clock + 1

    precedes = belongs_to = builds_on

    def follows(self, client: int, clock: int) -> None:
        """The struct at hand stands behind that id."""
        self.builds_on(client, clock)
        if clock == self.clock - 1 and client == self.client:
            self.joins += 1

    def item(self, info: int) -> int:
        """One item's head and content; gives its length in clocks."""
        self.spend(1)
        if info & _HAS_ORIGIN:
            self.follows(self.uint(MAX_CLIENT), self.uint(MAX_CLOCK))
        if info & _HAS_RIGHT_ORIGIN:
            self.precedes(self.uint(MAX_CLIENT), self.uint(MAX_CLOCK))
        if not info & (_HAS_ORIGIN | _HAS_RIGHT_ORIGIN):
            named = self.byte()
            if named == 1:
                self.text()
            elif named == 0:
                self.belongs_to(self.uint(MAX_CLIENT), self.uint(MAX_CLOCK))
            else:
                raise Malformed("a parent is of an unknown kind")
            if info & _HAS_PARENT_SUB:
                self.text()
        return self.content(info & 0x1F)

    def plain_item(self, match: re.Match[bytes]) -> int:
        """The same as `item`, for what `plain` has recognised."""
        origin, origin_clock, neighbour, neighbour_clock, coded_length = match.groups()
        info = self.data[match.start()]
        if origin is not None:
            self.follows(plain.client(origin), plain.clock(origin_clock))
        if info & _HAS_RIGHT_ORIGIN:
            self.precedes(plain.client(neighbour), plain.clock(neighbour_clock))
        else:
            self.follows(plain.client(neighbour), plain.clock(neighbour_clock))
        length = plain.clock(coded_length)
        self.pos = match.end()
        if info & 0x1F == _DELETED:
            return length
        text = self.take(length)
        return length if text.isascii() else self.text_length(text, match.start(5))

    def content(self, kind: int) -> int:
        """What an item of this kind holds; gives its length in clocks. Raises `Malformed`."""
        if kind == STRING:
            begin = self.pos
            return self.text_length(self.take(self.uint(MAX_CLOCK)), begin)
        if kind == _DELETED:
            return self.uint(MAX_CLOCK)
        if kind == ANY:
            length = self.count(1)
            self.values(length)
            return length
        if kind == _FORMAT:
            self.text()
        if kind in (_EMBED, _FORMAT):
            self.text()
            self.has_json = True
        elif kind == _TYPE:
            self.shared_type()
        elif kind == _BINARY:
            self.take(self.uint(MAX_CLOCK))
        elif kind == _DOC:
            self.text()
            self.values(1)
        elif kind == _JSON:
            # yrs reads one text more than Yjs writes.
            raise Malformed("it holds ContentJSON, which Yjs has not written since version 13")
        else:
            raise Malformed(f"content kind {kind} is unknown")
        return 1

    def deletes(self, client: int, start: int, end: int) -> None:
        """The delete set has the range from `start` to before `end`."""

    def text_length(self, text: bytes, begin: int) -> int:  # noqa: ARG002 (for subclasses)
        """The length that Yjs counts: what UTF-16 codes as a surrogate pair counts twice.

        `begin` is where the text's coded size stands.
        """
        characters = decode(text)
        length = len(characters.encode("utf-16-le")) >> 1
        if length != len(characters):
            self.spend(length - len(characters))
            self.has_pairs = True
        return length

    def shared_type(self) -> None:
        """The head of a nested shared type, which is counted. Raises `Malformed`."""
        kind = self.byte()
        if kind == _XML_ELEMENT:
            self.text()
        elif kind not in _PLAIN_TYPES:
            raise Malformed(f"shared type {kind} is unknown")
        self.types += 1

    def values(self, count: int) -> None:
        """`count` lib0 Any values, without recursion."""
        self.spend(count)
        open_values = [count]
        keyed = [False]
        while open_values:
            if not open_values[-1]:
                open_values.pop()
                keyed.pop()
                continue
            open_values[-1] -= 1
            if keyed[-1]:
                self.text()
            tag = self.byte()
            if tag == 119:
                self.text()
            elif tag == 125:
                self.signed()
            elif tag in _ANY_SIZES:
                self.take(_ANY_SIZES[tag])
            elif tag == 116:
                self.take(self.uint(MAX_CLOCK))
            elif tag in (117, 118):
                if len(open_values) > MAX_ANY_DEPTH:
                    raise Malformed(f"a value is nested deeper than {MAX_ANY_DEPTH}")
                inside = self.count(tag - 116)
                self.spend(inside)
                open_values.append(inside)
                keyed.append(tag == 118)
            else:
                raise Malformed(f"value kind {tag} is unknown")

    def signed(self) -> None:
        """A lib0 varInt: sign and 6 bits in the first byte, 7 in the others; at most 53 bits."""
        byte = self.byte()
        value, shift = byte & 0x3F, 6
        while byte > 0x7F:
            if shift > 48:
                raise Malformed("an integer is longer than 53 bits")
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
        if value > MAX_CLIENT:
            raise Malformed("an integer is longer than 53 bits")

    def delete_set(self) -> bool:
        """Ranges a client, in ascending order as every encoder writes them: yrs takes them for sorted."""
        sections = self.count(4)
        self.spend(sections)
        clients: set[int] = set()
        for _ in range(sections):
            client = self.uint(MAX_CLIENT)
            if client in clients:
                raise Malformed("its delete set has two sections for one client")
            clients.add(client)
            end = 0
            ranges = self.count(2)
            self.spend(ranges)
            for _ in range(ranges):
                start = self.uint(MAX_CLOCK)
                if start < end:
                    raise Malformed("its delete set is not in order")
                end = start + self.length()
                self.deletes(client, start, end)
            if end > MAX_CLOCK:
                raise Malformed("a clock is out of range")
            if end > self.needs.get(client, 0):
                self.needs[client] = end
        return sections > 0


_ANY_SIZES = {127: 0, 126: 0, 124: 4, 123: 8, 122: 8, 121: 0, 120: 0}
