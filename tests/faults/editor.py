"""A replica that writes numbered edits, and what its user notices of a fault."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pycrdt

TOKEN = re.compile(r"<([^<>.]+\.\d+)>")


def edits_of(doc: pycrdt.Doc[Any]) -> list[str]:
    """The numbered edits in a document's text, in their order, as `name.number`. Raises `ValueError` when there is anything
    else in it."""
    text = str(doc.get("text", type=pycrdt.Text))
    if rest := TOKEN.sub("", text):
        raise ValueError(f"beside whole edits the text has {rest[:80]!r}")
    return TOKEN.findall(text)


class Noticed:
    """What one user notices. Times are in seconds."""

    def __init__(self) -> None:
        self.reconnects = 0
        self.errors: Counter[str] = Counter()
        """Close codes, problem codes, and kinds of connections that failed."""
        self.longest_unacknowledged = 0.0
        """From writing an edit to its acknowledgement."""
        self.longest_alone = 0.0
        """Between two edits of others."""
        self._heard_others: float | None = None

    def others(self) -> None:
        """An edit of somebody else arrived."""
        now = time.monotonic()
        if self._heard_others is not None:
            self.longest_alone = max(self.longest_alone, now - self._heard_others)
        self._heard_others = now


class Editor:
    """Edits one document through whatever happens; subclasses are the ways in.

    An edit appends `<name.number>` to the text, numbered 0, 1, 2, ... `acknowledged` has the numbers of which the server
    said that they are durable.
    """

    PAUSE = 0.05
    """Seconds between two edits."""

    def __init__(self, name: str, document: str, urls: Sequence[str]) -> None:
        """`urls` are of the nodes that it uses: the first, and when that is lost the next one, round and round."""
        self.name = name
        self.document = document
        self.written = 0
        self.acknowledged: set[int] = set()
        self.noticed = Noticed()
        self._urls = urls
        self._turn = 0
        self._doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._text = self._doc.get("text", type=pycrdt.Text)
        self._since: dict[int, float] = {}

    @property
    def text(self) -> str:
        return str(self._text)

    def contents(self) -> list[str]:
        """The edits in the text, as `edits_of` gives them."""
        return edits_of(self._doc)

    async def work(self, until: asyncio.Event) -> None:
        """Write edits until the event is set, and take part until cancelled."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Of the node that is used now."""
        return self._urls[self._turn % len(self._urls)]

    def unacknowledged(self) -> list[int]:
        """The numbers that were written and not acknowledged yet."""
        return list(self._since)

    def write(self) -> bytes:
        """Make one edit; its update."""
        before = self._doc.get_state()
        self._text += f"<{self.name}.{self.written}>"
        self._since[self.written] = time.monotonic()
        self.written += 1
        return self._doc.get_update(before)

    def note(self, numbers: Iterable[int]) -> None:
        """The server said that these are durable."""
        now = time.monotonic()
        for number in numbers:
            since = self._since.pop(number, None)
            if since is not None:
                self.noticed.longest_unacknowledged = max(self.noticed.longest_unacknowledged, now - since)
            self.acknowledged.add(number)

    def follow(self, update: bytes) -> None:
        """Take in what others wrote."""
        before = self._doc.get_state()
        self._doc.apply_update(update)
        if self._doc.get_state() != before:
            self.noticed.others()

    def lost(self, why: str) -> None:
        """The connection, or a request, failed: the next node is tried."""
        self.noticed.errors[why] += 1
        self._turn += 1
