"""Edits that cut a character in two.

Yjs counts text in UTF-16, where a character beyond the Basic Multilingual Plane (most emoji) is a pair of surrogates,
and a client that compares text unit by unit may delete or insert between the two. Yjs then replaces both halves by
U+FFFD (`structs/ContentString.js`, `splice`). yrs keeps the character on one side and counts it for one unit: what it
encodes from then on has other clocks than every peer. So the halves are spelled out as two U+FFFD before yrs sees the
cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from crdt.coding import Reader, write_uint
from crdt.walk import Walk

Position = tuple[int, int]
"""A client id and a clock: the place before the unit with that id."""

_PAIR = re.compile("[\U00010000-\U0010ffff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}" * 2

may_have_pairs = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}").search
"""Finds any character that is a pair, and now and then something else."""


class PairWalk(Walk):
    """Notes the places that an update cuts at, and the pairs that it inserts, as far as it is new.

    `known`: client id -> clock before which nothing is new. `cuts`: where it inserts or deletes next to. `pairs`: the
    middles of the pairs in its text.
    """

    __slots__ = ("cuts", "known", "pairs", "texts")

    def __init__(self, update: bytes, known: Mapping[int, int]) -> None:
        super().__init__(update)
        self.known = known
        self.cuts: list[Position] = []
        self.pairs: set[Position] = set()
        # Each text with pairs: the id of its first unit, where its coded size begins and where it ends.
        self.texts: list[tuple[int, int, int, int]] = []

    def follows(self, client: int, clock: int) -> None:
        """The struct at hand stands behind that id."""
        self.builds_on(client, clock)
        self.cut_by_struct(client, clock + 1)

    def precedes(self, client: int, clock: int) -> None:
        """The struct at hand stands before that id."""
        self.builds_on(client, clock)
        self.cut_by_struct(client, clock)

    def cut_by_struct(self, client: int, clock: int) -> None:
        """The struct at hand, if it is new, stands before that id."""
        if self.clock >= self.known.get(self.client, 0):
            self.cuts.append((client, clock))

    def deletes(self, client: int, start: int, end: int) -> None:
        """See `Walk.deletes`."""
        self.cuts.append((client, start))
        self.cuts.append((client, end))

    def text_length(self, text: bytes, begin: int) -> int:
        """See `Walk.text_length`; notes the text's pairs."""
        length = super().text_length(text, begin)
        middles = _middles(text.decode(), self.clock)
        if middles:
            self.texts.append((self.client, self.clock, begin, self.pos))
            known = self.known.get(self.client, 0)
            self.pairs.update((self.client, middle) for middle in middles if middle >= known)
            # What is new of a text may begin with the second half of a pair.
            self.cuts.append((self.client, known))
        return length


def _middles(text: str, clock: int) -> list[int]:
    """The clocks of the second halves, where the text's first unit has `clock`."""
    return [clock + match.start() + before + 1 for before, match in enumerate(_PAIR.finditer(text))]


def spell_out(update: bytes, middles: set[Position]) -> bytes:
    """The same update with the pairs around `middles` replaced, as far as it inserts them."""
    walk = PairWalk(update, {})
    walk.run()
    parts: list[bytes] = []
    done = 0
    for client, clock, begin, end in walk.texts:
        text = Reader(update, begin).text()
        characters = list(text)
        for match, middle in zip(_PAIR.finditer(text), _middles(text, clock), strict=True):
            if (client, middle) in middles:
                characters[match.start()] = _REPLACEMENT
        coded = "".join(characters).encode()
        parts += (update[done:begin], write_uint(len(coded)), coded)
        done = end
    return b"".join((*parts, update[done:]))
