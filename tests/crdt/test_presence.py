"""Presence: y-protocols' rules, and that a socket speaks for its own ids alone."""

from __future__ import annotations

import json

import pytest

from crdt.errors import MalformedPresence
from crdt.presence import CLOCK_LEAP, FIRST_CLOCK, ROOM_BYTES, SMALL, Presence, PresenceBudget
from sync.protocol.lib0 import write_var_string, write_var_uint


def update(*states: tuple[int, int, object]) -> bytes:
    parts = [write_var_uint(len(states))]
    for client, clock, state in states:
        parts += [write_var_uint(client), write_var_uint(clock), write_var_string(json.dumps(state))]
    return b"".join(parts)


def test_a_state_is_shown_and_renewed_and_goes() -> None:
    presence = Presence()
    assert presence.apply(update((1, 1, {"name": "é"})), "a", 0.0) == {1}
    assert presence.encode() == update((1, 1, {"name": "é"}))
    assert presence.apply(update((1, 2, {"name": "é"})), "a", 10.0) == {1}
    assert presence.apply(update((1, 2, {"name": "older"})), "a", 10.0) == set()
    assert presence.apply(update((1, 3, None)), "a", 11.0) == {1}
    assert len(presence) == 0
    assert presence.encode({1}) == update((1, 3, None))


def test_a_null_of_the_same_clock_removes() -> None:
    presence = Presence()
    presence.apply(update((1, 4, {})), "a", 0.0)
    assert presence.apply(update((1, 4, None)), "a", 0.0) == {1}
    assert len(presence) == 0


def test_nobody_speaks_for_another_sockets_ids() -> None:
    presence = Presence()
    presence.apply(update((1, 1, {"name": "ada"})), "a", 0.0)
    assert presence.apply(update((1, 9, {"name": "eve"}), (2, 1, {"name": "eve"})), "b", 0.0) == {2}
    assert presence.apply(update((1, 9, None)), "b", 0.0) == set()
    assert presence.encode({1}) == update((1, 1, {"name": "ada"}))


def test_states_go_with_their_socket() -> None:
    presence = Presence()
    presence.apply(update((1, 1, {}), (2, 1, {})), "a", 0.0)
    presence.apply(update((3, 1, {})), "b", 0.0)
    assert presence.leave("a") == {1, 2}
    assert presence.leave("a") == set()
    assert len(presence) == 1


def test_states_expire_without_renewal() -> None:
    presence = Presence(timeout=30.0)
    presence.apply(update((1, 1, {})), "a", 0.0)
    presence.apply(update((2, 1, {})), "b", 20.0)
    assert presence.expire(29.9) == set()
    assert presence.expire(31.0) == {1}
    assert presence.expire(51.0) == {2}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff\x0f",
        b"\x01\x01\x01\x05{}",
        b"\x01\x01\x01\x02{]",
        b"\x01\x01\x01\x02\xff\xfe",
        b"\x01\x01\x01\x03NaN",
        b"\x00\x00",
        b"\x01\x01\x01" + write_var_uint(120_000) + b"[" * 60_000 + b"]" * 60_000,
        update((1, 1, "x" * 70_000)),
    ],
)
def test_malformed_and_oversized_states_are_named(raw: bytes) -> None:
    presence = Presence(max_state_bytes=65_536)
    with pytest.raises(MalformedPresence):
        presence.apply(raw, "a", 0.0)
    assert len(presence) == 0


def test_who_used_an_id_last_does_not_mute_who_uses_it_after_a_while() -> None:
    presence = Presence(timeout=30)
    presence.apply(update((7, FIRST_CLOCK, {})), "mallory", 0.0)
    presence.leave("mallory")
    assert presence.apply(update((7, 3, {})), "alice", 1.0) == set(), "somebody may relay what he has heard"
    assert presence.apply(update((7, 4, {})), "alice", 31.0) == {7}
    presence.leave("alice")
    presence.expire(62.0)
    assert presence.encode({7}) == b"\x00"


def test_a_flood_of_states_is_given_up_at_the_first_too_many() -> None:
    presence = Presence()
    broken = update(*[(client, 1, {}) for client in range(5)]) + b"\xff" * 10
    with pytest.raises(MalformedPresence, match="more than 4 clients"):
        presence.apply(broken, "a", 0.0)
    assert len(presence) == 0


def test_nobody_takes_anothers_clock_near_its_end() -> None:
    presence = Presence()
    assert presence.apply(update((7, 2**53 - 1, {})), "mallory", 0.0) == set()
    assert presence.apply(update((7, FIRST_CLOCK + 1, {})), "mallory", 0.0) == set()
    assert presence.apply(update((7, FIRST_CLOCK, {})), "mallory", 0.0) == {7}
    assert presence.apply(update((7, FIRST_CLOCK + CLOCK_LEAP + 1, {})), "mallory", 0.0) == set()
    assert presence.apply(update((7, FIRST_CLOCK + CLOCK_LEAP, {})), "mallory", 0.0) == {7}
    presence.leave("mallory")
    # Whose id it is goes on from what it heard of it.
    assert presence.apply(update((7, FIRST_CLOCK + CLOCK_LEAP + 1, {})), "alice", 1.0) == {7}


def test_states_find_room_up_to_a_bound_and_large_ones_in_half_of_it() -> None:
    budget = PresenceBudget(8 * SMALL)
    here, there = Presence(budget=budget), Presence(budget=budget)
    large = "x" * (3 * SMALL)
    assert here.apply(update((1, 1, large), (2, 1, large)), "a", 0.0) == {1}
    assert there.apply(update((3, 1, large)), "a", 0.0) == set()
    assert there.apply(update(*[(client, 1, "small") for client in (4, 5, 6, 7)]), "b", 0.0) == {4, 5, 6, 7}
    assert there.apply(update((8, 1, "small")), "c", 0.0) == set()
    assert budget.passed_over == 3
    assert budget.held <= 8 * SMALL
    assert there.apply(update((4, 2, "moved a little")), "b", 1.0) == {4}, "who is here can move"
    assert here.apply(update((1, 2, "small")), "a", 1.0) == {1}
    assert there.apply(update((8, 2, "small")), "c", 1.0) == {8}
    for presence in (here, there):
        presence.expire(100.0)
        assert len(presence) == 0
        presence.expire(200.0)
    assert budget.held == 0


def test_a_room_has_a_bound_of_its_own_and_what_is_cleared_gives_its_room_back() -> None:
    budget = PresenceBudget(4 * ROOM_BYTES)
    presence = Presence(budget=budget)
    for owner in range(2000):
        presence.apply(update(*[(4 * owner + client, 1, {}) for client in range(4)]), owner, 0.0)
    assert len(presence) == ROOM_BYTES // SMALL
    assert presence.held == budget.held == ROOM_BYTES
    presence.clear()
    assert len(presence) == budget.held == 0


def test_ids_that_went_take_little_room_and_none_that_others_need() -> None:
    budget = PresenceBudget(64 * SMALL)
    presence = Presence(budget=budget)
    for client in range(10_000):
        presence.apply(update((client, 1, {})), "mallory", 0.0)
        presence.apply(update((client, 1, None)), "mallory", 0.0)
    assert budget.held <= 33 * SMALL
    assert Presence(budget=budget).apply(update((1, 1, {})), "alice", 0.0) == {1}


def test_more_states_than_a_room_can_have_are_refused_before_they_are_read() -> None:
    presence = Presence()
    for raw in (write_var_uint(8193) + b"\x01" * 40_000, update(*[(client, 1, "x") for client in range(8192)])):
        with pytest.raises(MalformedPresence):
            presence.apply(raw, "a", 0.0)
    assert presence.follow(update(*[(client, 1, "x") for client in range(4096)]), 0.0) == set(range(4096))
