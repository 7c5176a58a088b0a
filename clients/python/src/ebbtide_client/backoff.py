"""When to try again: exponential back-off with full jitter, so that not everyone meets a restarted server at once."""

from __future__ import annotations

import random


class Backoff:
    """Delays in seconds. `reset` after every success."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def delay(self, at_least: float = 0.0) -> float:
        """The next delay: `at_least`, as far as the server asked for it, and a random part on top."""
        bound = min(self._longest, self._first * 2 ** min(self._failures, 32))
        self._failures += 1
        return at_least + random.uniform(0.0, bound)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._failures = 0
