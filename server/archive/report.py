"""What a long command says meanwhile: how far it is, and which documents something is wrong with."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR_WIDTH = 30
TERMINAL_SECONDS = 0.1
LINE_SECONDS = 5.0
"""How often progress is said: on a terminal, where it replaces itself, and elsewhere, where every time is a line."""


class Report:
    """Writes to `stream` (stderr unless given): a bar on a terminal, a line now and then elsewhere.

    `documents` counts those that are done, `left` those that were looked at and are not, and `troubles` those that something
    was wrong with.
    """

    def __init__(self, doing: str, stream: TextIO | None = None) -> None:
        """`doing` begins every line: "backup"."""
        self._doing = doing
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._pause = TERMINAL_SECONDS if self._terminal else LINE_SECONDS
        self._said_at = time.monotonic()
        self._width = 0
        self.total = 0
        """Documents that there are to do; 0 while that is not known."""
        self.documents = 0
        self.left = 0
        self.entries = 0
        self.bytes = 0
        self.troubles = 0

    def advance(self, *, documents: int = 0, left: int = 0, entries: int = 0, size: int = 0) -> None:
        """So much more is done. `size` counts bytes of updates and states."""
        self.documents += documents
        self.left += left
        self.entries += entries
        self.bytes += size
        now = time.monotonic()
        if now - self._said_at >= self._pause:
            self._said_at = now
            self._say()

    def trouble(self, document: str, code: str, reason: str) -> None:
        """Something is wrong with a document; the command goes on with the others."""
        self.troubles += 1
        self.line(f"{code}: {document}: {reason}")

    def line(self, text: str) -> None:
        """A line of its own."""
        self._clear()
        print(f"ebbtide: {text}", file=self._stream, flush=True)

    def end(self) -> None:
        """Leave the terminal as it was."""
        self._clear()

    def counts(self) -> str:
        """What was done, in words."""
        return f"{documents(self.documents)}, {entries(self.entries)}, {_size(self.bytes)}"

    def _say(self) -> None:
        if not self._terminal:
            of = f"{self.documents + self.left:,} of " if self.total else ""
            done = documents(self.total or self.documents + self.left)
            self.line(f"{self._doing}: {of}{done}, {entries(self.entries)}, {_size(self.bytes)}")
            return
        share = min(1.0, (self.documents + self.left) / self.total) if self.total else 0.0
        bar = "=" * round(share * BAR_WIDTH)
        text = f"{self._doing} [{bar:{BAR_WIDTH}}] {share:4.0%}  {self.counts()}"
        print(f"\r{text:{self._width}}", end="", file=self._stream, flush=True)
        self._width = len(text)

    def _clear(self) -> None:
        if self._width:
            print(f"\r{'':{self._width}}\r", end="", file=self._stream, flush=True)
            self._width = 0


def documents(count: int) -> str:
    """`1 document`, `1,234 documents`."""
    return f"{count:,} document{'' if count == 1 else 's'}"


def entries(count: int) -> str:
    """`1 entry`, `1,234 entries`."""
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
