from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.revocations import Kind, Revocation
from server.tokens import MAX_SUBJECT_BYTES, NOT_BEFORE_LEEWAY
from server.web.revocations import decode_revocation
from sync.protocol.errors import BadRequest, UnsupportedContentType

NOW = 1_800_000_000.0
OLDEST = NOW - 86_400


def decoded(body: object) -> Revocation:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_revocation(text, "application/json", NOW, OLDEST)


def test_a_subject_is_revoked_with_all_that_can_have_been_believed_until_now() -> None:
    assert decoded({"subject": "ada"}) == Revocation(Kind.SUBJECT, "ada", NOW + NOT_BEFORE_LEEWAY)


@pytest.mark.parametrize("until", [NOW, NOW - 86_399.5, int(NOW), NOW + NOT_BEFORE_LEEWAY])
def test_or_until_a_time_of_the_signer_s(until: float) -> None:
    assert decoded({"subject": "ada", "issued_until": until}) == Revocation(Kind.SUBJECT, "ada", until)


def test_or_one_token() -> None:
    assert decoded({"token": "7"}) == Revocation(Kind.TOKEN, "7", NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b"[" * 4096,
        b'{"a":' * 800,
        b'{"subject":"ada","subject":"bob"}',
        b'{"subject":"ada","issued_until":NaN}',
        b'{"subject":"ada","issued_until":1e400}',
        b'{"subject":"ada","issued_until":' + b"9" * 4000 + b"}",
        b'{"subject":"\\ud800"}',
        [],
        "ada",
        None,
        {},
        {"subject": None},
        {"subject": ""},
        {"subject": 7},
        {"subject": ["ada"]},
        {"subject": "a\u0000"},
        {"subject": "ä" * (MAX_SUBJECT_BYTES // 2 + 1)},
        {"token": 7},
        {"token": ""},
        {"token": "7", "subject": "ada"},
        {"token": "7", "issued_until": NOW},
        {"subject": "ada", "issued_util": NOW},
        {"issued_until": NOW},
        {"subject": "ada", "issued_until": None},
        {"subject": "ada", "issued_until": True},
        {"subject": "ada", "issued_until": str(NOW)},
        {"subject": "ada", "issued_until": NOW + NOT_BEFORE_LEEWAY + 1},
        {"subject": "ada", "issued_until": OLDEST},
        {"subject": "ada", "issued_until": -1},
    ],
)
def test_what_is_not_clear_is_refused(body: object) -> None:
    with pytest.raises(BadRequest):
        decoded(body)


@pytest.mark.parametrize("kind", ["application/msgpack", "text/plain", "application/octet-stream"])
def test_only_json_is_taken(kind: str) -> None:
    with pytest.raises(UnsupportedContentType):
        decode_revocation(b'{"token":"7"}', kind, NOW, OLDEST)


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(),
        lambda each: st.dictionaries(st.sampled_from(["subject", "token", "issued_until"]), each),
    )
)
def test_whatever_is_sent_is_taken_or_refused_by_name(body: object) -> None:
    try:
        assert decoded(body).name
    except BadRequest:
        pass
