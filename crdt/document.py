"""A document: what its log of updates adds up to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from crdt.deletions import deletes_all_of
from crdt.errors import CrdtError, MalformedUpdate, MissingCauses, TooManyClients, TooManyCuts, TooManyTypes
from crdt.info import UpdateInfo
from crdt.pairs import PairWalk, Position, may_have_pairs, spell_out
from crdt.plain import insert_text
from crdt.replica import Replica
from crdt.runs import COPIED, join_runs
from crdt.updates import MAX_VECTOR_CLIENTS, decode_state_vector, encode_state_vector, inspect
from crdt.walk import MAX_PARTS

_LARGE = 256
"""Bytes from which an update is more than somebody's typing: an offline queue, or a document that is brought along."""


MAX_TYPES = 300_000
"""Nested shared types that a document may have. yrs deletes them by recursion, level by level; how deep they are nested would
be dearer to know than how many there are, and this many levels fit the stack that the server asks for."""

_TYPE_BYTES = 8
"""The least that an encoded nested type takes."""

MAX_CLIENTS = 100_000
"""Client ids whose edits a document may have. Each takes some 450 bytes of memory, and everybody who joins names them all: that
takes 0.2 s at this many. Every page that is loaded and edits is a client of its own."""


class Verdict(Enum):
    """What became of an update that was taken."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"


class Document:
    """One replica, at some point of its log. Not thread-safe.

    An update is applied whole or not at all; none stays pending inside. Whether it is new and whether its causes are
    there is decided from the clocks before yrs sees it.
    """

    __slots__ = ("_clocks", "_cut_bytes", "_full_at", "_logged", "_pairs", "_replica", "_types", "cut_bytes")

    def __init__(self) -> None:
        self._replica = Replica()
        self._clocks: dict[int, int] = {}
        # The middles of the surrogate pairs that were ever inserted.
        self._pairs: set[Position] = set()
        # What cuts may still cost in this call of `apply_all`.
        self._cut_bytes = math.inf
        self.cut_bytes = 0
        """What the last call of `apply_all` spent on cuts."""
        # Whether this call of `apply_all` is given a log.
        self._logged = False
        # At most so many nested shared types are in it.
        self._types = 0
        # The document's size when they were counted last and were too many.
        self._full_at: int | None = None

    @classmethod
    def load(cls, entries: Iterable[bytes], snapshot: bytes | None = None) -> Document:
        """A document from what a store holds: a snapshot that `encode` gave, if there is one, and the entries after it.

        The bytes are trusted: each must have passed `apply` or come from `encode` or `merge`.

        Raises `MalformedUpdate` when one of them cannot be applied.
        """
        entries = list(entries)
        log = entries if snapshot is None else [snapshot, *entries]
        document = cls()
        if any(map(may_have_pairs, log)):
            for verdict in document.apply_all(log, logged=True):
                if isinstance(verdict, CrdtError):
                    raise MalformedUpdate(f"an entry of the log cannot be applied: {verdict.reason}") from verdict
        else:
            document._replica = Replica(entries, snapshot)
            document._clocks = document._replica.clocks()
            document._types = document.size // _TYPE_BYTES
        return document

    @property
    def size(self) -> int:
        """About how many bytes `encode` gives: those of the last encoding and of all that was applied since."""
        return self._replica.size

    def apply(self, update: bytes) -> Verdict:
        """Apply one update.

        Raises `MalformedUpdate`, `MissingCauses`, `TooManyTypes`, `TooManyParts` or `TooManyClients`, and then leaves the
        document as it was.
        """
        verdict = self.apply_all((update,))[0]
        if isinstance(verdict, CrdtError):
            raise verdict
        return verdict

    def apply_all(
        self, updates: Sequence[bytes], cut_bytes: float = math.inf, *, logged: bool = False
    ) -> list[Verdict | CrdtError]:
        """Apply updates in order, each as `apply` would, in as few transactions as possible.

        The answers are in the order of the updates; an error stands for what `apply` would have raised. An update that cuts
        a character in two costs as much as the whole document: once that is more than `cut_bytes` bytes in sum, further ones
        are answered with `TooManyCuts`, and can be taken by a later call. `logged` updates come from the log: what was merged
        there, or written by several nodes at once, may have more parts and clients than one update from outside.
        """
        self._cut_bytes, self.cut_bytes, self._logged = cut_bytes, 0, logged
        return self._take(updates)

    def contains(self, update: bytes, *, deletions: bool) -> bool:
        """Whether the document has everything of the update.

        Without `deletions` it has none that deletes: to find that out, all that was ever deleted is gone through.

        Raises `MalformedUpdate` or `TooManyParts`.
        """
        info = inspect(update, MAX_PARTS)
        if self._is_new(info) or not self.knows(info.needs):
            return False
        return not info.deletes or (deletions and deletes_all_of(self._replica.diff(self.state_vector()), update))

    def knows(self, clocks: Mapping[int, int]) -> bool:
        """Whether the document has reached these clocks: client id -> clock."""
        ours = self._clocks
        return all(ours.get(client, 0) >= clock for client, clock in clocks.items())

    def fits(self, update: bytes, limit: int) -> bool:
        """Whether the document may take the update when its encoding is to have about `limit` bytes at most.

        What only deletes always fits, and so does what adds nothing; what is malformed is for `apply` to refuse.
        """
        if self.size + len(update) > limit:
            self._replica.tighten()
        if self.size + len(update) <= limit:
            return True
        try:
            return not self._is_new(inspect(update))
        except CrdtError:
            return True

    def state_vector(self) -> bytes:
        """The encoded state vector."""
        return self._replica.state_vector()

    def place(self, state_vector: bytes) -> bytes:
        """The same place in this document's terms: without clients and clocks that it does not know, in one order.

        All peers that lack the same get the same bytes, whatever they have of their own. Raises `MalformedStateVector`.
        """
        ours = self._clocks
        theirs = decode_state_vector(state_vector, MAX_VECTOR_CLIENTS)
        known = {client: min(clock, ours[client]) for client, clock in sorted(theirs.items()) if clock and client in ours}
        return encode_state_vector(known)

    def diff(self, state_vector: bytes) -> bytes:
        """One update with everything that a peer with this state vector lacks, and all deletions.

        Raises `MalformedStateVector`.
        """
        decode_state_vector(state_vector, MAX_VECTOR_CLIENTS)
        return self._replica.diff(state_vector)

    def encode(self) -> bytes:
        """The whole document as one update. Without a change in between, the same object again."""
        return self._replica.encode()

    def _take(self, updates: Sequence[bytes]) -> list[Verdict | CrdtError]:
        verdicts: list[Verdict | CrdtError] = []
        while len(verdicts) < len(updates):
            self._apply_run(updates, verdicts)
        return verdicts

    def _apply_run(self, updates: Sequence[bytes], verdicts: list[Verdict | CrdtError]) -> None:
        """Take as many of the updates that have no verdict yet as one transaction will do for, and at least one."""
        start = len(verdicts)
        run: list[bytes] = []
        entangled = large = False
        most_parts = math.inf if self._logged else MAX_PARTS
        spacious = self._logged or len(self._clocks) + len(updates) <= MAX_CLIENTS
        for update in updates[start:]:
            if spacious and not self._pairs and insert_text(update, self._clocks):
                run.append(update)
                verdicts.append(Verdict.APPLIED)
                continue
            try:
                info = inspect(update, most_parts)
                self._require(info)
                if info.copies > COPIED:
                    update = join_runs(update)
            except CrdtError as error:
                verdicts.append(error)
                continue
            new = self._is_new(info)
            if not new and not info.deletes:
                verdicts.append(Verdict.DUPLICATE)
                continue
            if not self._admits_clients(info):
                verdicts.append(TooManyClients(MAX_CLIENTS))
                continue
            if info.types and self._types + info.types > MAX_TYPES:
                if run:
                    break
                if not self._has_room(info.types):
                    verdicts.append(TooManyTypes(MAX_TYPES))
                    continue
            cut = self._cut(update) if self._pairs or info.has_pairs else None
            if cut or not new:
                if run:
                    break
                verdicts.append(self._apply_alone(update, info, cut))
                return
            self._advance(info)
            run.append(update)
            entangled = entangled or info.entangled
            large = large or len(update) > _LARGE
            verdicts.append(Verdict.APPLIED)
        if not run:
            return
        try:
            if large:
                self._replica.absorb(run, self._clocks)
            else:
                self._replica.apply(run, self._clocks if entangled else None)
        except MalformedUpdate as error:
            self._clocks = self._replica.clocks()
            if len(verdicts) == start + 1:
                verdicts[start] = error
            else:
                # What came after the update that failed may build on it, so everything is judged again.
                verdicts[start:] = [self._take((update,))[0] for update in updates[start : len(verdicts)]]

    def _apply_alone(self, update: bytes, info: UpdateInfo, cut: set[Position] | None) -> Verdict | CrdtError:
        """Take an update that needs a transaction of its own: it cuts pairs, or adds deletions at most."""
        if not cut:
            return self._apply_settled(update, info)
        if not self._cut_bytes or (self.cut_bytes and self.cut_bytes + self.size > self._cut_bytes):
            return TooManyCuts()
        self.cut_bytes += self.size
        before = self.encode()
        self._replica.replace(spell_out(before, cut))
        verdict = self._apply_settled(spell_out(update, cut), info)
        if verdict is Verdict.APPLIED:
            self._pairs -= cut
        else:
            self._replica.replace(before)
        return verdict

    def _apply_settled(self, update: bytes, info: UpdateInfo) -> Verdict | CrdtError:
        """Take an update that cuts no pair, alone."""
        try:
            if not self._is_new(info):
                return Verdict.APPLIED if self._replica.apply_deletions(update) else Verdict.DUPLICATE
            self._advance(info)
            self._replica.apply((update,), self._clocks if info.entangled else None)
        except MalformedUpdate as error:
            self._clocks = self._replica.clocks()
            return error
        return Verdict.APPLIED

    def _require(self, info: UpdateInfo) -> None:
        """Raises `MissingCauses`."""
        clocks = self._clocks
        for client, clock in info.needs.items():
            if clocks.get(client, 0) < clock:
                raise MissingCauses({c: k for c, k in info.needs.items() if clocks.get(c, 0) < k})

    def _is_new(self, info: UpdateInfo) -> bool:
        """Whether the update inserts anything that the document does not have."""
        clocks = self._clocks
        return any(clocks.get(client, 0) < end for client, (_, end) in info.inserts.items())

    def _admits_clients(self, info: UpdateInfo) -> bool:
        clocks, inserts = self._clocks, info.inserts
        if self._logged or len(clocks) + len(inserts) <= MAX_CLIENTS:
            return True
        added = sum(client not in clocks for client in inserts)
        return not added or len(clocks) + added <= MAX_CLIENTS

    def _has_room(self, types: int) -> bool:
        """Count the nested types that are left of those that were ever inserted, and say whether as many more fit in.

        Counting costs as much as encoding the document several times. It is not done again before a tenth of it is gone.
        """
        if self._full_at is not None and self.size > self._full_at * 0.9:
            return False
        self._types = inspect(self.encode()).types
        fits = self._types + types <= MAX_TYPES
        self._full_at = None if fits else self.size
        return fits

    def _advance(self, info: UpdateInfo) -> None:
        """From here on, what the update inserts counts as known."""
        self._types += info.types
        clocks = self._clocks
        for client, (_, end) in info.inserts.items():
            if clocks.get(client, 0) < end:
                clocks[client] = end

    def _cut(self, update: bytes) -> set[Position]:
        """The middles of pairs at which the update inserts or deletes; its own pairs are known from here on."""
        walk = PairWalk(update, self._clocks)
        walk.run()
        self._pairs |= walk.pairs
        return self._pairs.intersection(walk.cuts)
