from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.codec import MalformedRevocation, decode, decode_message, encode_message
from server.access.revocations import Kind, Revocation

NOW = 1_800_000_000.0


@pytest.mark.parametrize("revocation", [Revocation(Kind.SUBJECT, "tü", NOW + 0.1), Revocation(Kind.TOKEN, "s" * 200, 0.0)])
def test_what_was_written_is_read(revocation: Revocation) -> None:
    assert decode_message(encode_message(revocation), NOW) == revocation
    assert decode(revocation.key.encode(), revocation.at, NOW) == revocation


@pytest.mark.parametrize("member", [b"", b"s", b"x7", b"ada", b"s\xff", b"s\n", b"s" + b"x" * 201])
def test_another_hand_s_member_is_named(member: bytes) -> None:
    with pytest.raises(MalformedRevocation):
        decode(member, NOW, NOW)


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, -1.0, NOW + 90_000, 1e300])
def test_a_time_that_cannot_be_is_named(at: float) -> None:
    with pytest.raises(MalformedRevocation):
        decode_message(struct.pack(">d", at) + b"sada", NOW)


@given(st.binary())
def test_whatever_is_published_is_read_or_named(data: bytes) -> None:
    try:
        assert decode_message(data, NOW).name
    except MalformedRevocation:
        pass
