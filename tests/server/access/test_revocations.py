from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access import revocations as module
from server.access.errors import RevocationsFull
from server.access.revocations import Kind, Revocation, Revocations, is_revocation
from server.tokens import MAX_SUBJECT_BYTES, Claims, TokenError, TokenRevoked

NOW = 1_800_000_000.0
HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns() -> list[Callable[[], None]]:
    """What is to be called in the next turn of the loop."""
    return []


@pytest.fixture
def revocations(clock: Clock, turns: list[Callable[[], None]]) -> Revocations:
    return Revocations(24, clock, turns.append)


def claims(subject: str = "ada", issued_at: float | None = NOW - 60, token_id: str | None = None) -> Claims:
    return Claims.grant(subject, NOW + HOUR, {}, issued_at=issued_at, token_id=token_id)


def subject(name: str = "ada", at: float = NOW) -> Revocation:
    return Revocation(Kind.SUBJECT, name, at)


def token(name: str = "7", at: float = NOW) -> Revocation:
    return Revocation(Kind.TOKEN, name, at)


def refused(revocations: Revocations, given: Claims) -> bool:
    try:
        revocations.check(given)
    except TokenRevoked:
        return True
    return False


@pytest.mark.parametrize(
    ("issued_at", "is_refused"), [(0.0, True), (NOW - 0.001, True), (NOW, True), (None, True), (NOW + 0.001, False)]
)
def test_a_subject_s_tokens_are_revoked_by_when_they_were_issued(
    revocations: Revocations, issued_at: float | None, is_refused: bool
) -> None:
    revocations.add(subject())
    assert refused(revocations, claims(issued_at=issued_at)) is is_refused
    assert not refused(revocations, claims("bob", issued_at))


def test_a_token_is_revoked_whenever_it_was_issued(revocations: Revocations) -> None:
    revocations.add(token("7"))
    assert refused(revocations, claims(issued_at=NOW + 5, token_id="7"))
    assert not refused(revocations, claims(token_id="8"))
    assert not refused(revocations, claims())


def test_no_name_passes_for_another(revocations: Revocations) -> None:
    for name in ("7", "s7", "t7", "e\u0301", "A"):
        revocations.add(token(name))
    for name in ("t7", "7", "\u00e9", "a"):
        assert not refused(revocations, claims(name)), "a subject is no token, and no name is another's spelling"
    revocations.add(subject("ada"))
    assert not refused(revocations, claims("bob", token_id="ada"))
    assert not refused(revocations, claims("bob", token_id="sada"))


def test_an_entry_is_kept_for_its_hours_and_no_longer(revocations: Revocations, clock: Clock) -> None:
    revocations.add(subject())
    revocations.add(token())
    clock.now = NOW + 24 * HOUR - 1
    assert refused(revocations, claims())
    assert {each.name for each in revocations} == {"ada", "7"}
    clock.now = NOW + 24 * HOUR
    assert not refused(revocations, claims())
    assert not refused(revocations, claims(token_id="7"))
    assert list(revocations) == []
    revocations.add(subject(at=clock.now))
    assert refused(revocations, claims())


def test_what_another_list_lacks(revocations: Revocations, clock: Clock) -> None:
    for each in (subject("ada"), subject("bob"), subject("old", NOW - 23 * HOUR), token()):
        revocations.add(each)
    clock.now = NOW + HOUR
    known = {"sada": NOW, "sbob": NOW - 1, "scid": NOW}
    assert set(revocations.beyond(known)) == {subject("bob"), token()}


def test_a_later_time_holds_and_an_earlier_one_changes_nothing(revocations: Revocations) -> None:
    assert revocations.add(subject(at=NOW)).at == NOW
    assert revocations.add(subject(at=NOW - 10)).at == NOW
    revocations.learn(subject(at=NOW - 20))
    assert refused(revocations, claims(issued_at=NOW))
    assert revocations.add(subject(at=NOW + 5)).at == NOW + 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=8))
def test_nodes_agree_whatever_the_order_they_hear_in(heard: list[tuple[str, int]]) -> None:
    entries = [subject(name, NOW - age) for name, age in heard]
    lists = []
    for order in (entries, entries[::-1], sorted(entries), entries * 2):
        each = Revocations(24, lambda: NOW, lambda call: None)
        for entry in order:
            each.learn(entry)
        lists.append(set(each))
    assert all(one == other for one, other in itertools.pairwise(lists))


def test_who_is_in_is_told_once_and_nobody_else_is(revocations: Revocations) -> None:
    ended: list[str] = []

    def admit(name: str, given: Claims) -> None:
        revocations.admit(given, lambda error: ended.append(f"{name} {error.code}"))

    admit("ada", claims())
    admit("ada without iat", claims(issued_at=None))
    admit("ada with a new token", claims(issued_at=NOW + 1))
    admit("bob", claims("bob", token_id="7"))
    gone = revocations.admit(claims(), lambda error: ended.append("gone"))
    revocations.dismiss(gone)
    revocations.dismiss(gone)
    for _ in range(2):
        revocations.add(subject())
    assert ended == ["ada token-revoked", "ada without iat token-revoked"]
    revocations.learn(token("7"))
    assert ended[2:] == ["bob token-revoked"]
    revocations.learn(subject("bob"))
    revocations.learn(subject(at=NOW + 1))
    assert ended[3:] == ["ada with a new token token-revoked"]


def test_who_leaves_or_is_told_is_not_remembered(revocations: Revocations) -> None:
    gone = revocations.admit(claims(token_id="7"), lambda error: None)
    revocations.admit(claims("bob", token_id="8"), lambda error: None)
    revocations.dismiss(gone)
    revocations.add(token("8"))
    assert revocations._admitted == {}


def test_an_end_may_let_others_go(revocations: Revocations) -> None:
    """As one socket has several documents."""
    ended = []
    second = revocations.admit(claims(), lambda error: ended.append("second"))
    revocations.dismiss(second)

    def end(error: TokenError) -> None:
        ended.append("first")
        revocations.dismiss(third)

    revocations.admit(claims(), end)
    third = revocations.admit(claims(), lambda error: ended.append("third"))
    revocations.add(subject())
    assert ended[0] == "first"
    assert revocations._admitted == {}


def test_many_who_are_in_are_ended_a_few_at_a_time(
    revocations: Revocations, turns: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENDED_AT_ONCE", 3)
    ended: list[int] = []

    def end(number: int) -> Callable[[TokenError], None]:
        return lambda error: ended.append(number)

    admissions = [revocations.admit(claims(), end(number)) for number in range(8)]
    revocations.add(subject())
    revocations.add(subject("bob"))
    assert (ended, len(turns)) == ([0, 1, 2], 1)
    revocations.dismiss(admissions[4])
    renewed = revocations.admit(claims(issued_at=NOW + 1), end(4))
    turns.pop()()
    turns.pop()()
    assert (ended, turns) == ([0, 1, 2, 3, 5, 6, 7], [])
    revocations.dismiss(renewed)
    assert revocations._admitted == {}


def test_a_full_list_refuses_and_forgets_nothing(
    revocations: Revocations, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REVOCATIONS", 3)
    monkeypatch.setattr(module, "MAX_LEARNT", 5)
    for name in "abc":
        revocations.add(token(name))
    with pytest.raises(RevocationsFull) as raised:
        revocations.add(token("d"))
    assert raised.value.limit == 3
    assert not refused(revocations, claims(token_id="d"))
    assert revocations.add(token("a", NOW + 1)).at == NOW + 1, "an entry that is there already needs no room"
    for name in "de":
        revocations.learn(token(name))
    with pytest.raises(RevocationsFull):
        revocations.learn(token("f"))
    assert {each.name for each in revocations} == set("abcde")
    clock.now = NOW + 24 * HOUR
    revocations.add(token("f", clock.now))
    assert len(revocations) == 2, "what has expired makes room"


@pytest.mark.parametrize(
    ("name", "at", "sound"),
    [
        ("ada", NOW, True),
        ("ada", NOW + HOUR, True),
        ("", NOW, False),
        ("a\n", NOW, False),
        ("a\ud800", NOW, False),
        ("x" * (MAX_SUBJECT_BYTES + 1), NOW, False),
        ("ada", -1.0, False),
        ("ada", NOW + 2 * 86_400, False),
        ("ada", math.nan, False),
        ("ada", math.inf, False),
    ],
)
def test_what_no_node_would_have_written_is_none(name: str, at: float, sound: bool) -> None:
    assert is_revocation(subject(name, at), NOW) is sound
