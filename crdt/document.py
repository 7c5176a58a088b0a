"""A document: what its log of updates adds up to, held in memory by yrs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import pycrdt

from crdt.errors import CrdtError, MalformedUpdate, MissingCauses
from crdt.info import UpdateInfo
from crdt.updates import EMPTY_UPDATE, decode_state_vector, inspect

_TAIL_FLOOR = 8 * 1024
"""Up to this many bytes of updates stay as they came, however small the document is."""


class Verdict(Enum):
    """What became of an update that was taken."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"


class Document:
    """One replica, at some point of its log. Not thread-safe.

    An update is applied whole or not at all: none stays pending inside. What cannot be applied raises and leaves the
    document as it was, even where yrs finds out half-way: the document is then rebuilt from the updates it is made of.
    """

    __slots__ = ("_clocks", "_doc", "_log", "_pairs", "_tail_bytes")

    def __init__(self) -> None:
        self._doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._clocks: dict[int, int] = {}
        # What the document is made of: its last encoding, then the updates applied since (the tail).
        self._log: list[bytes] = [EMPTY_UPDATE]
        self._tail_bytes = 0
        # The middles of all surrogate pairs ever inserted.
        self._pairs: set[Position] = set()

    @classmethod
    def load(cls, updates: Iterable[bytes]) -> Document:
        """A document from what a store holds: a snapshot first, if there is one, then the entries after it, in order.

        The bytes are trusted: each must have passed `apply` or come from `encode` or `merge`.

        Raises `MalformedUpdate` when yrs cannot take one of them.
        """
        document = cls()
        log = list(updates) or [EMPTY_UPDATE]
        if any(map(may_have_pairs, log)):
            for verdict in document.apply_all(log):
                if isinstance(verdict, CrdtError):
                    raise MalformedUpdate(f"the log cannot be applied: {verdict.reason}") from verdict
            return document
        document._log = log
        document._rebuild()
        document._tail_bytes = sum(map(len, document._log[1:]))
        document._trim()
        return document

    @property
    def size(self) -> int:
        """About how many bytes `encode` gives: those of the last encoding and of all that was applied since."""
        return len(self._log[0]) + self._tail_bytes

    @property
    def client_count(self) -> int:
        """How many client ids have written; stock clients take a new one for every session."""
        return len(self._clocks)

    def apply(self, update: bytes) -> Verdict:
        """Apply one update.

        Raises `MalformedUpdate` or `MissingCauses`, and then leaves the document as it was.
        """
        verdict = self.apply_all((update,))[0]
        if isinstance(verdict, CrdtError):
            raise verdict
        return verdict

    def apply_all(self, updates: Sequence[bytes]) -> list[Verdict | CrdtError]:
        """Apply updates in order, each as `apply` would, in as few transactions as possible.

        The answers are in the order of the updates; an error stands for what `apply` would have raised.
        """
        verdicts: list[Verdict | CrdtError] = []
        run: list[bytes] = []
        run_start = 0
        entangled = False
        for update in updates:
            try:
                info = inspect(update)
                adds = self._adds(info)
            except CrdtError as error:
                verdicts.append(error)
                continue
            if (self._pairs or info.has_pairs) and (cut := self._cut(update)):
                # What was already taken as added must be in the document before it is changed.
                ...
            if adds:
                if not run:
                    run_start = len(verdicts)
                run.append(update)
                entangled = entangled or info.entangled
                verdicts.append(Verdict.APPLIED)
            elif info.deletes:
                self._settle(run, entangled, verdicts, run_start, updates)
                run, entangled = [], False
                verdicts.append(self._delete(update))
            else:
                verdicts.append(Verdict.DUPLICATE)
        self._settle(run, entangled, verdicts, run_start, updates)
        return verdicts

    def state_vector(self) -> bytes:
        """The encoded state vector."""
        return self._doc.get_state()

    def diff(self, state_vector: bytes) -> bytes:
        """One update with everything that a peer with this state vector lacks, and all deletions.

        Raises `MalformedStateVector`.
        """
        decode_state_vector(state_vector)
        return self._doc.get_update(state_vector)

    def encode(self) -> bytes:
        """The whole document as one update. Without a change in between, the same object again."""
        if len(self._log) > 1:
            self._log = [self._doc.get_update()]
            self._tail_bytes = 0
        return self._log[0]

    def _adds(self, info: UpdateInfo) -> bool:
        """Whether the update inserts anything new; if so, its clocks count as known from here on.

        Raises `MissingCauses`.
        """
        clocks = self._clocks
        for client, clock in info.needs.items():
            if clocks.get(client, 0) < clock:
                raise MissingCauses({c: k for c, k in info.needs.items() if clocks.get(c, 0) < k})
        adds = False
        for client, (_, end) in info.inserts.items():
            if clocks.get(client, 0) < end:
                clocks[client] = end
                adds = True
        return adds

    def _settle(
        self,
        run: list[bytes],
        entangled: bool,
        verdicts: list[Verdict | CrdtError],
        run_start: int,
        updates: Sequence[bytes],
    ) -> None:
        """Give a run of updates that all add something to yrs, in one transaction.

        Where yrs refuses, everything since the start of the run is judged again, one by one: what came later may build
        on the update that failed.
        """
        if not run:
            return
        try:
            _transact(self._doc, run)
            if entangled and decode_state_vector(self._doc.get_state()) != self._clocks:
                raise MalformedUpdate("its structs wait for each other")
        except MalformedUpdate as error:
            self._rebuild()
            if len(verdicts) == run_start + 1:
                verdicts[run_start] = error
            else:
                verdicts[run_start:] = [self.apply_all((u,))[0] for u in updates[run_start : len(verdicts)]]
            return
        self._log += run
        self._tail_bytes += sum(map(len, run))
        self._trim()

    def _delete(self, update: bytes) -> Verdict | CrdtError:
        """Apply an update of which only the deletions can be new. Clocks do not tell whether they are; yrs does."""
        changed: list[bool] = []
        subscription = self._doc.observe(lambda _event: changed.append(True))
        try:
            _transact(self._doc, (update,))
        except MalformedUpdate as error:
            self._rebuild()
            return error
        self._doc.unobserve(subscription)
        if not changed:
            return Verdict.DUPLICATE
        self._log.append(update)
        self._tail_bytes += len(update)
        self._trim()
        return Verdict.APPLIED

    def _trim(self) -> None:
        """Encode anew when the tail has outgrown the last encoding, so that the cost is spread over the updates."""
        if self._tail_bytes > _TAIL_FLOOR + len(self._log[0]) // 2:
            self.encode()

    def _rebuild(self) -> None:
        """Start over from the log.

        Raises `MalformedUpdate`.
        """
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        _transact(doc, self._log)
        self._doc = doc
        self._clocks = decode_state_vector(doc.get_state())


def _transact(doc: pycrdt.Doc[Any], updates: Iterable[bytes]) -> None:
    """Apply in one transaction.

    Raises `MalformedUpdate` when yrs refuses one of them; the document is then half-way and must be given up.
    """
    try:
        with doc.transaction():
            for update in updates:
                doc.apply_update(update)
    except (ValueError, RuntimeError) as error:
        raise MalformedUpdate(str(error)) from error
    except BaseException as error:
        # A panic in Rust arrives as a class of its own that is no Exception and cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise MalformedUpdate("yrs cannot integrate it") from error
