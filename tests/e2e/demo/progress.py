"""A progress bar on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

WIDTH = 30
REDRAW_SECONDS = 0.1


class Progress:
    def __init__(self, total: int) -> None:
        self._total = total
        self._started = time.monotonic()
        self._drawn = 0.0
        self._tenths = 0
        self._terminal = sys.stdout.isatty()

    def show(self, done: int, state: str) -> None:
        """Draw, but not more often than anybody can read."""
        now = time.monotonic()
        if self._terminal:
            if now - self._drawn >= REDRAW_SECONDS or done == self._total:
                self._drawn = now
                filled = WIDTH * done // self._total
                bar = "#" * filled + "." * (WIDTH - filled)
                sys.stdout.write(f"\r\x1b[K[{bar}] {self._count(done, now)}  {state}")
                sys.stdout.flush()
        elif done * 10 // self._total > self._tenths:
            self._tenths = done * 10 // self._total
            self.say(f"{self._tenths * 10:3} %  {self._count(done, now)}  {state}")

    def say(self, line: str) -> None:
        """Print a line of its own; the bar goes on below."""
        print(f"\r\x1b[K{line}" if self._terminal else line, flush=True)
        self._drawn = 0.0

    def _count(self, done: int, now: float) -> str:
        return f"{done:,} of {self._total:,} edits, {done / max(now - self._started, 0.001):,.0f}/s"
