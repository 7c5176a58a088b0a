"""Every decoder of `sync.protocol` against its closed list of errors: whatever comes in, nothing else comes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.protocol import errors
from sync.protocol.errors import ProtocolError
from sync.protocol.lib0 import read_var_bytes, read_var_string, read_var_uint
from sync.protocol.names import check_address
from sync.protocol.push_codec import decode_push
from sync.protocol.session import Session, SessionLimits
from tests.golden.vectors import DIALECTS, VECTORS, client_frames

CLOSED_LIST = tuple(each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ProtocolError))
bounded = settings(max_examples=400, deadline=None)


def mutations(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """Real bytes with a few changed, dropped, doubled or put in."""

    def change(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        for start, length, insert in edits:
            at = start % (len(data) + 1)
            data = data[:at] + insert + data[at + length :]
        return data

    edit = st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=4))
    return st.builds(change, st.sampled_from(samples), st.lists(edit, max_size=4))


def outcome(decode: Callable[[], object]) -> object:
    """What was read, with its type, or the type of the refusal."""
    try:
        value = decode()
    except CLOSED_LIST as error:
        return type(error), None
    return type(value), value


def named(result: object) -> bool:
    """Whether an outcome is anything but the bare root of the errors, which answers nothing."""
    return result != (ProtocolError, None)


PUSHES = [bytes.fromhex(vector["msgpack"]) for vector in VECTORS["push"]]
JSON_PUSHES = [vector["json"].encode() for vector in VECTORS["push"]]


@bounded
@given(st.binary(max_size=64), st.integers(0, 64))
def test_lib0_readers(data: bytes, at: int) -> None:
    assert named(outcome(lambda: read_var_uint(data, at)))
    assert named(outcome(lambda: read_var_bytes(data, at)))
    assert named(outcome(lambda: read_var_string(data, at)))


@pytest.mark.parametrize("name", sorted(DIALECTS))
@bounded
@given(data=st.data())
def test_dialects(name: str, data: st.DataObject) -> None:
    frame = data.draw(st.binary(max_size=64) | mutations(client_frames(name)))
    assert named(outcome(lambda: DIALECTS[name].decode(frame, "plan")))


@bounded
@given(mutations(client_frames("hocuspocus")), st.sampled_from(["plan", "計画/東京", "Überfällige Aufgaben"]))
def test_the_last_address_is_only_a_hint(frame: bytes, last: str) -> None:
    decode = DIALECTS["hocuspocus"].decode
    assert outcome(lambda: decode(frame, last)) == outcome(lambda: decode(frame, ""))


@bounded
@given(st.text(max_size=300))
def test_addresses(address: str) -> None:
    assert named(outcome(lambda: check_address(address)))


@bounded
@given(st.binary(max_size=64) | mutations(PUSHES))
def test_pushes_in_messagepack(body: bytes) -> None:
    assert named(outcome(lambda: decode_push(body, "application/msgpack")))


@bounded
@given(st.binary(max_size=64) | mutations(JSON_PUSHES))
def test_pushes_in_json(body: bytes) -> None:
    assert named(outcome(lambda: decode_push(body, "application/json")))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(mutations(client_frames("hocuspocus")), st.sampled_from(["grant", "deny", ""])), max_size=30),
    st.booleans(),
)
def test_sessions(steps: list[tuple[bytes, str]], anonymous: bool) -> None:
    limits = SessionLimits(waiting_bytes=4096, waiting_messages=8, documents=6)
    session = Session(DIALECTS["hocuspocus"], limits, anonymous=anonymous)
    for frame, answer in steps:
        assert named(outcome(partial(session.receive, frame)))
        if answer == "grant":
            assert named(outcome(lambda: session.grant("plan")))
        elif answer == "deny":
            assert named(outcome(lambda: session.deny("plan")))
