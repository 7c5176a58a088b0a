"""A yrs document that can go back: what it refuses half-way leaves no trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pycrdt

from crdt.errors import MalformedUpdate
from crdt.runs import COPIED, join_runs
from crdt.updates import EMPTY_UPDATE, decode_state_vector, is_panic, merge

_TAIL_FLOOR = 8 * 1024
"""Up to this many bytes of updates stay as they came, however small the document is."""

_SLACK = 64

_SHORT = 2 << 10
"""Bytes up to which an update cannot have so many structs that joining them costs much."""

_ABSORBED = 16
"""How many times as large as what is added a document may be for starting anew ..."""

_ABSORBED_BYTES = 1 << 20
"""... and how large at most, since everybody waits meanwhile."""


class Replica:
    """Keeps the updates that it is made of, and starts over from them when yrs has failed.

    It must be given well-formed updates only (see `crdt.updates.inspect`), none before its causes, and after the start none
    whose structs would be joined at a great cost (see `crdt.runs`).
    """

    __slots__ = ("_doc", "_log", "_tail_bytes", "_tight")

    def __init__(self, entries: Sequence[bytes] = (), snapshot: bytes | None = None) -> None:
        """What `encode` gave once, if anything, and the updates after it.

        Raises `MalformedUpdate` when yrs refuses one of them.
        """
        # The last encoding, then the updates applied since (the tail).
        self._log = [] if snapshot is None else [snapshot]
        self._log += [update if len(update) <= _SHORT else join_runs(update) for update in entries]
        self._log = self._log or [EMPTY_UPDATE]
        self._doc = _build(self._log)
        self._tail_bytes = sum(map(len, self._log[1:]))
        # Whether encoding anew made little difference when it was last tried.
        self._tight = False
        self._trim()

    @property
    def size(self) -> int:
        """The bytes of the last encoding and of the updates applied since."""
        return len(self._log[0]) + self._tail_bytes

    def clocks(self) -> dict[int, int]:
        """Client id -> clock, as yrs has them."""
        return decode_state_vector(self.state_vector())

    def state_vector(self) -> bytes:
        """The encoded state vector."""
        return self._doc.get_state()

    def diff(self, state_vector: bytes) -> bytes:
        """One update with what a copy with this well-formed state vector lacks."""
        return self._doc.get_update(state_vector)

    def encode(self) -> bytes:
        """The whole as one update. Without a change in between, the same object again."""
        if len(self._log) > 1:
            self._log = [self._doc.get_update()]
            self._tail_bytes = 0
        return self._log[0]

    def tighten(self) -> None:
        """Encode anew if that may make `size` much smaller: deletions in the tail do so, or a long tail.

        When it made little difference, it is not done again before the tail is long, since it costs as much as the document.
        """
        if self._tail_bytes and (self._tail_bytes * _SLACK > self.size or not self._tight):
            before = self.size
            self.encode()
            self._tight = (before - self.size) * _SLACK < before

    def apply(self, updates: Sequence[bytes], expected: Mapping[int, int] | None = None) -> None:
        """Apply all in one transaction, or nothing.

        Raises `MalformedUpdate` when yrs refuses one of them, or has other clocks than `expected` afterwards: some
        structs then wait for each other.
        """
        try:
            _transact(self._doc, updates)
            if expected is not None and self.clocks() != expected:
                raise MalformedUpdate("its structs wait for each other")
        except MalformedUpdate:
            self._doc = _build(self._log)
            raise
        self._extend(updates)

    def absorb(self, updates: Sequence[bytes], expected: Mapping[int, int]) -> None:
        """Apply large updates, all or nothing.

        What many people wrote at one place takes yrs a time that grows with the square of it when their updates come one
        by one, but not when they are merged first: its structs are then in the order in which none has to pass the others.
        So updates that make up a good part of a document that is not huge are merged with it, and yrs starts anew.

        Raises `MalformedUpdate` as `apply` does.
        """
        if sum(map(len, updates)) * _ABSORBED < self.size or self.size > _ABSORBED_BYTES:
            self.apply((_joined(merge(updates), len(updates)),), expected)
            return
        doc = _build((_joined(merge((self.encode(), *updates)), len(updates)),))
        if decode_state_vector(doc.get_state()) != expected:
            raise MalformedUpdate("its structs wait for each other")
        self._doc = doc
        self._log = [doc.get_update()]
        self._tail_bytes = 0

    def apply_deletions(self, update: bytes) -> bool:
        """Apply an update of which only the deletions can be new; says whether they are, which clocks cannot tell.

        Raises `MalformedUpdate`.
        """
        changes: list[pycrdt.TransactionEvent] = []
        subscription = self._doc.observe(changes.append)
        try:
            _transact(self._doc, (update,))
        except MalformedUpdate:
            self._doc = _build(self._log)
            raise
        self._doc.unobserve(subscription)
        if changes:
            self._extend((update,))
        return bool(changes)

    def replace(self, update: bytes) -> None:
        """Start over from `update`.

        Raises `MalformedUpdate`.
        """
        self._doc = _build((update,))
        self._log = [update]
        self._tail_bytes = 0

    def _extend(self, updates: Sequence[bytes]) -> None:
        self._log += updates
        for update in updates:
            self._tail_bytes += len(update)
        self._trim()

    def _trim(self) -> None:
        """Encode anew when the tail has outgrown the last encoding: the cost is spread over the updates in it."""
        if self._tail_bytes > _TAIL_FLOOR + len(self._log[0]) // 2:
            self.encode()


def _build(log: Sequence[bytes]) -> pycrdt.Doc[Any]:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    _transact(doc, log)
    return doc


def _joined(merged: bytes, count: int) -> bytes:
    """What `count` updates were merged into, with their structs joined if yrs would pay much for that."""
    return merged if (count - 1) * len(merged) <= COPIED else join_runs(merged)


def _transact(doc: pycrdt.Doc[Any], updates: Sequence[bytes]) -> None:
    """Apply in as few transactions as may be, given what joining structs at the end of each costs.

    Raises `MalformedUpdate` when yrs refuses one of them; the document is then half-way and must be given up.
    """
    try:
        if len(updates) == 1:
            # It makes a transaction of its own for less.
            doc.apply_update(updates[0])
            return
        start = size = 0
        for end, update in enumerate(updates):
            size += len(update)
            if size * (end + 1 - start) > COPIED and end > start:
                _apply_together(doc, updates[start:end])
                start, size = end, len(update)
        _apply_together(doc, updates[start:])
    except (ValueError, RuntimeError) as error:
        raise MalformedUpdate(str(error)) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise MalformedUpdate("yrs cannot integrate it") from error


def _apply_together(doc: pycrdt.Doc[Any], updates: Sequence[bytes]) -> None:
    with doc.transaction():
        for update in updates:
            doc.apply_update(update)
