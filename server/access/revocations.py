"""Which tokens were withdrawn before they expired, and who came in with them: see docs/design/revocation-and-rates.md.

Pure and synchronous: the clock is passed in, and what reaches other nodes is the caller's affair.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from server.access.errors import RevocationsFull
from server.tokens import MAX_SUBJECT_BYTES, MAX_TOKEN_ID_BYTES, Claims, TokenRevoked, is_name

MAX_REVOCATIONS = 100_000
"""Entries that this node adds to at most: about 40 MiB when each name is as long as it may be."""

MAX_LEARNT = 2 * MAX_REVOCATIONS
"""Entries that are taken from other nodes at most. Those keep to `MAX_REVOCATIONS` too, so only a foreign hand gets here."""

ENDED_AT_ONCE = 100
"""Of those to whom a new entry applies, how many are ended in a turn of the loop, at 0.1 ms each. A subject may be everyone."""

_FURTHEST = 86_400.0
"""Seconds that a time from elsewhere may lie ahead: more than clocks that differ can explain is no revocation."""


class Kind(Enum):
    """What a revocation names. The values begin its key, so that no subject can pass for a token, nor the reverse."""

    SUBJECT = "s"
    TOKEN = "t"  # noqa: S105 - a kind, not a secret


MAX_NAME_BYTES = {Kind.SUBJECT: MAX_SUBJECT_BYTES, Kind.TOKEN: MAX_TOKEN_ID_BYTES}


class Revocation(NamedTuple):
    """Of a subject, all tokens issued at or before `at`, in seconds since 1970, or that do not say when; or one token.

    Of two with the same kind and name the later one holds, whatever the order in which they are heard of.
    """

    kind: Kind
    name: str
    at: float

    @property
    def key(self) -> str:
        """Kind and name in one text."""
        return self.kind.value + self.name


def is_revocation(revocation: Revocation, now: float) -> bool:
    """Whether one from elsewhere has a name that a token can have, and a time that can be meant."""
    kind, name, at = revocation
    return is_name(name, MAX_NAME_BYTES[kind]) and math.isfinite(at) and 0 <= at <= now + _FURTHEST


@dataclass(slots=True, eq=False)
class Admission:
    """Somebody who is in on these claims. `end` is called once, when they are revoked; it raises nothing."""

    claims: Claims
    end: Callable[[TokenRevoked], None]


class Revocations:
    """The list, and those to whom it may come to apply.

    `hours` is how long an entry is kept; `now` gives seconds since 1970; `later` calls in the next turn of the loop. A check
    looks at two entries at most, whatever the length of the list; a new entry looks at those who came in with what it
    names, and at nobody else.
    """

    def __init__(self, hours: int, now: Callable[[], float], later: Callable[[Callable[[], None]], object]) -> None:
        self.seconds = hours * 3600.0
        """How long an entry is kept behind its time."""
        self._now = now
        self._later = later
        self._at: dict[str, float] = {}
        self._admitted: dict[str, dict[Admission, None]] = {}
        # Those who were in when an entry came that may apply to them, each with its key.
        self._suspects: deque[tuple[str, Admission]] = deque()

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[Revocation]:
        """Every entry that is still kept, as they are now."""
        return iter(self.beyond({}))

    def beyond(self, known: Mapping[str, float]) -> list[Revocation]:
        """Those of a later time than `known` has under their key, or that it has not. A full list takes some 20 ms."""
        oldest = self.oldest()
        later = [(key, at) for key, at in self._at.items() if at > oldest and known.get(key, 0.0) < at]
        return [Revocation(Kind(key[0]), key[1:], at) for key, at in later]

    def oldest(self) -> float:
        """Entries of this time and earlier are kept no more: what they revoked has expired."""
        return self._now() - self.seconds

    def get(self, key: str) -> float | None:
        """The time of the entry with this key; None when there is none."""
        at = self._at.get(key)
        return None if at is None or at <= self.oldest() else at

    def check(self, claims: Claims) -> None:
        """Raises `TokenRevoked` when an entry applies to these claims."""
        if self._at and self._applies(claims):
            raise _revoked()

    def add(self, revocation: Revocation) -> Revocation:
        """Take in an entry of this node's, and end who came in with what it names. Returns the entry that holds now.

        Idempotent. Raises `RevocationsFull`, and then nothing has changed.
        """
        self._make_room(revocation.key, MAX_REVOCATIONS)
        return self._take(revocation)

    def learn(self, revocation: Revocation) -> None:
        """The same for an entry of another node's, for which `is_revocation` holds. Raises `RevocationsFull`."""
        if revocation.at > self.oldest():
            self._make_room(revocation.key, MAX_LEARNT)
            self._take(revocation)

    def admit(self, claims: Claims, end: Callable[[TokenRevoked], None]) -> Admission:
        """Somebody is in on claims that were checked in this turn of the loop, until `dismiss`."""
        admission = Admission(claims, end)
        for key in _keys(claims):
            self._admitted.setdefault(key, {})[admission] = None
        return admission

    def dismiss(self, admission: Admission) -> None:
        """They are gone, or in on other claims. Idempotent."""
        for key in _keys(admission.claims):
            admitted = self._admitted.get(key)
            if admitted is not None:
                admitted.pop(admission, None)
                if not admitted:
                    del self._admitted[key]

    def _applies(self, claims: Claims) -> bool:
        if claims.token_id is not None and self.get(Kind.TOKEN.value + claims.token_id) is not None:
            return True
        at = self.get(Kind.SUBJECT.value + claims.subject)
        return at is not None and (claims.issued_at is None or claims.issued_at <= at)

    def _make_room(self, key: str, limit: int) -> None:
        if len(self._at) < limit or key in self._at:
            return
        oldest = self.oldest()
        self._at = {key: at for key, at in self._at.items() if at > oldest}
        if len(self._at) >= limit:
            raise RevocationsFull(limit)

    def _take(self, revocation: Revocation) -> Revocation:
        at = max(revocation.at, self._at.get(revocation.key, 0.0))
        if self._at.get(revocation.key) != at:
            self._at[revocation.key] = at
            under_way = bool(self._suspects)
            self._suspects.extend((revocation.key, each) for each in self._admitted.get(revocation.key, ()))
            if not under_way:
                self._end_some()
        return revocation._replace(at=at)

    def _end_some(self) -> None:
        for _ in range(min(len(self._suspects), ENDED_AT_ONCE)):
            key, admission = self._suspects.popleft()
            # They may have gone meanwhile, or be in on other claims.
            if admission in self._admitted.get(key, ()) and self._applies(admission.claims):
                self.dismiss(admission)
                admission.end(_revoked())
        if self._suspects:
            self._later(self._end_some)


def _keys(claims: Claims) -> Iterator[str]:
    # An open server's claims have no subject, and cannot be revoked.
    if claims.subject:
        yield Kind.SUBJECT.value + claims.subject
    if claims.token_id is not None:
        yield Kind.TOKEN.value + claims.token_id


def _revoked() -> TokenRevoked:
    return TokenRevoked("the token has been revoked; connect again with a new one")
