"""State vectors and awareness updates against their closed list of errors, and that a refused one leaves no trace."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.coding import MAX_CLIENT, MAX_CLOCK, Reader, write_uint
from crdt.document import Document, Verdict
from crdt.errors import MalformedPresence, MalformedStateVector, MissingCauses
from crdt.presence import Presence
from crdt.updates import decode_state_vector, encode_state_vector
from tests.crdt.recordings import record
from tests.fuzz.test_protocol_decoders import mutations

bounded = settings(max_examples=400, deadline=None)

clocks = st.dictionaries(st.integers(0, MAX_CLIENT), st.integers(0, MAX_CLOCK), max_size=8)
DOCUMENT = Document()
DOCUMENT.apply_all(record(3))
VECTORS = [DOCUMENT.state_vector(), b"\x00", encode_state_vector({0: 0, 5: 2**31 - 1, MAX_CLIENT: 1})]

STATES: list[object] = [{"user": {"name": "é潮😀"}}, {}, None, [1, 0.5, "x"], "text", {"cursor": {"anchor": {"item": None}}}]
ids = st.integers(0, 9)
entries = st.tuples(ids, st.integers(0, 5), st.sampled_from(STATES))
owners = st.sampled_from("abc")
OTHER_NODE = "another node"


def awareness(states: list[tuple[int, int, object]]) -> bytes:
    """An awareness update of these client ids, clocks and states."""
    parts = [write_uint(len(states))]
    for client, clock, state in states:
        text = json.dumps(state).encode()
        parts += (write_uint(client), write_uint(clock), write_uint(len(text)), text)
    return b"".join(parts)


AWARENESS = [awareness([(1, 1, STATES[0])]), awareness([(2, 1, {}), (3, 4, None)]), awareness([(9, 2, STATES[5])]), b"\x00"]
updates = st.lists(entries, max_size=6).map(awareness) | mutations(AWARENESS) | st.binary(max_size=40)


@bounded
@given(clocks)
def test_a_state_vector_is_read_as_it_was_written(written: dict[int, int]) -> None:
    assert decode_state_vector(encode_state_vector(written)) == written


@bounded
@given(st.binary(max_size=40) | mutations(VECTORS))
def test_a_state_vector_is_understood_or_refused_by_name(vector: bytes) -> None:
    try:
        read = decode_state_vector(vector)
    except MalformedStateVector:
        for ask in (DOCUMENT.place, DOCUMENT.diff):
            try:
                ask(vector)
            except MalformedStateVector:
                continue
            raise AssertionError("what does not decode was answered") from None
        return
    assert all(0 <= client <= MAX_CLIENT and 0 <= clock <= MAX_CLOCK for client, clock in read.items())
    (outcome,) = Document().apply_all([DOCUMENT.diff(vector)])
    # The copy is blank, so what the vector says that it has may be missing.
    assert isinstance(outcome, Verdict) or (isinstance(outcome, MissingCauses) and any(read.values()))
    assert decode_state_vector(DOCUMENT.place(vector)).items() <= read.items() | decode_state_vector(VECTORS[0]).items()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(updates, owners | st.just(OTHER_NODE), st.sampled_from(["tell", "leave", "expire"])), max_size=20))
def test_presence_keeps_its_bounds_whatever_it_is_told(steps: list[tuple[bytes, str, str]]) -> None:
    presence = Presence(max_state_bytes=60, timeout=30.0, max_per_owner=4)
    now = 0.0
    spoken_for: dict[int, str] = {}
    for update, owner, then in steps:
        now += 1.0
        before, here = presence.encode(), presence.introduced_here()
        try:
            news = presence.follow(update, now) if owner == OTHER_NODE else presence.apply(update, owner, now)
        except MalformedPresence:
            assert presence.encode() == before
            assert presence.introduced_here() == here
            news = set()
        spoken_for.update((client, owner) for client in news if client not in spoken_for)
        assert all(spoken_for[client] == owner for client in news), "somebody spoke for another's id"
        if then == "leave" and owner != OTHER_NODE:
            presence.leave(owner)
        elif then == "expire":
            now += 25.0
            presence.expire(now)
        shown = _clients(presence.encode())
        assert len(shown) == len(presence)
        spoken_for = {client: by for client, by in spoken_for.items() if client in shown}
        assert shown == set(spoken_for)
        for each in "abc":
            assert sum(by == each for by in spoken_for.values()) <= 4
        # What one room shows, any other takes in.
        assert Presence(max_state_bytes=60).follow(presence.encode(), 100.0) == shown


def _clients(update: bytes) -> set[int]:
    """The ids of a well-formed awareness update."""
    reader = Reader(update)
    clients = set()
    for _ in range(reader.uint(MAX_CLOCK)):
        clients.add(reader.uint(MAX_CLIENT))
        reader.uint(MAX_CLIENT)
        reader.text()
    return clients
