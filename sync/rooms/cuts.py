"""The share of a node's time that edits which cut a character in two may take."""

from __future__ import annotations

import time
from collections.abc import Sequence

from crdt.document import Document, Verdict
from crdt.errors import CrdtError

CUT_BYTES = 256 << 10
"""Bytes of documents that may be written anew in one go for such edits; a single one may go beyond it."""

PAUSE = 10
"""How many times as long as such edits took, no further ones are taken ..."""

NOTICED = 0.02
"""... when they took longer than this, in seconds."""


class Cuts:
    """Applies updates, and puts off those that cut characters while the node has spent too long on others.

    Such an edit costs as much as its document (see `crdt.pairs`), and some clients make them now and then. Whoever makes
    many would keep everybody else waiting.
    """

    def __init__(self) -> None:
        self._not_before = 0.0

    @property
    def pause(self) -> float:
        """For how many seconds from now on none are taken."""
        return max(0.0, self._not_before - time.monotonic())

    def apply(self, document: Document, updates: Sequence[bytes]) -> list[Verdict | CrdtError]:
        """`Document.apply_all`, with `TooManyCuts` for those that were put off."""
        begin = time.monotonic()
        outcomes = document.apply_all(updates, CUT_BYTES if begin >= self._not_before else 0)
        if document.cut_bytes:
            end = time.monotonic()
            if end - begin > NOTICED:
                self._not_before = end + (end - begin) * PAUSE
        return outcomes
