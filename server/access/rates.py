"""How often one account or one address may do something in a minute: see docs/design/revocation-and-rates.md.

Pure and synchronous: the clock is passed in, and what other nodes counted is told by the caller when it is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from server.access.errors import RateLimited

WINDOW_SECONDS = 60

MAX_COUNTED = 50_000
"""Accounts or addresses that are counted of one kind in one window. Further ones are admitted, and counted together."""


class Rate(Enum):
    """What is counted. The values name the counters that nodes share."""

    HANDSHAKES = "handshakes"
    """WebSockets of one account, or of one address where nobody signs in."""
    UNNAMED_HANDSHAKES = "unnamed-handshakes"
    """WebSockets of one address that are to name their account only later."""
    PUSHES = "pushes"
    """Pushes of one account, or of one address where nobody signs in."""
    REFUSALS = "refusals"
    """Refused tokens of one address."""


_WORDS = {
    Rate.HANDSHAKES: "WebSockets were opened",
    Rate.UNNAMED_HANDSHAKES: "WebSockets were opened from this address",
    Rate.PUSHES: "pushes were sent",
    Rate.REFUSALS: "tokens were refused to this address",
}


class Share(NamedTuple):
    """What this node counted since it told the others: `more` of `rate` for `key` in `window`."""

    window: int
    rate: Rate
    key: bytes
    more: int


class _Count:
    __slots__ = ("elsewhere", "own", "told")

    def __init__(self) -> None:
        self.own = 0
        self.told = 0
        self.elsewhere = 0


class Rates:
    """Counters of the current minute. `limits` are per minute, 0 for none; `now` gives seconds since 1970.

    A window begins with each minute of the clock, so that nodes agree on it without a word: in the sixty seconds around a
    border, twice the limit is possible.
    """

    def __init__(self, limits: Mapping[Rate, int], now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._window = -1
        self._counts: dict[Rate, dict[bytes, _Count]] = {rate: {} for rate in Rate}
        self._untold: dict[tuple[Rate, bytes], None] = {}
        self.uncounted = 0
        """How often somebody was admitted for whom there was no counter left."""

    def take(self, rate: Rate, who: str | bytes) -> None:
        """Count one more for an account (text) or an address (bytes). Raises `RateLimited`, and counts nothing then."""
        limit = self._limits[rate]
        if limit == 0:
            return
        now = self._now()
        self._turn(now)
        key = _key(who)
        counts = self._counts[rate]
        count = counts.get(key)
        if count is None:
            if len(counts) >= MAX_COUNTED:
                self.uncounted += 1
                return
            count = counts[key] = _Count()
        if count.own + count.elsewhere >= limit:
            raise RateLimited(_WORDS[rate], limit, math.ceil(WINDOW_SECONDS - now % WINDOW_SECONDS))
        count.own += 1
        self._untold[rate, key] = None

    def untold(self, most: int) -> list[Share]:
        """Up to `most` counts that the other nodes do not know. They count as told from now on, whether that works or not:
        counting twice would refuse who did nothing.
        """
        self._turn(self._now())
        shares = []
        for rate, key in list(islice(self._untold, most)):
            del self._untold[rate, key]
            count = self._counts[rate][key]
            shares.append(Share(self._window, rate, key, count.own - count.told))
            count.told = count.own
        return shares

    def learn(self, share: Share, total: int) -> None:
        """All nodes together, this one included, have counted `total` where `share` was told."""
        count = self._counts[share.rate].get(share.key)
        if count is not None and share.window == self._window:
            count.elsewhere = max(0, total - count.told)

    def _turn(self, now: float) -> None:
        window = math.floor(now / WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._counts = {rate: {} for rate in Rate}
            self._untold = {}


def _key(who: str | bytes) -> bytes:
    # A digest: it bounds what a counter costs, and keeps names and addresses out of Redis.
    if isinstance(who, str):
        return blake2b(who.encode(), digest_size=12, person=b"account").digest()
    return blake2b(who, digest_size=12, person=b"address").digest()
