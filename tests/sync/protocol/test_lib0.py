from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.protocol.errors import IntegerOutOfRange, InvalidText, OverlongInteger, TruncatedMessage
from sync.protocol.lib0 import (
    MAX_INTEGER,
    read_var_bytes,
    read_var_string,
    read_var_uint,
    write_var_bytes,
    write_var_string,
    write_var_uint,
)
from tests.golden.vectors import VECTORS


@pytest.mark.parametrize("vector", VECTORS["lib0"]["uint"])
def test_integers_are_those_of_lib0(vector: dict[str, Any]) -> None:
    encoded = bytes.fromhex(vector["bytes"])
    assert write_var_uint(vector["value"]) == encoded
    assert read_var_uint(encoded, 0) == (vector["value"], len(encoded))


@pytest.mark.parametrize("vector", VECTORS["lib0"]["string"])
def test_strings_are_those_of_lib0(vector: dict[str, Any]) -> None:
    encoded = bytes.fromhex(vector["bytes"])
    assert write_var_string(vector["value"]) == encoded
    assert read_var_string(encoded, 0) == (vector["value"], len(encoded))


@pytest.mark.parametrize("vector", VECTORS["lib0"]["bytes"])
def test_byte_arrays_are_those_of_lib0(vector: dict[str, Any]) -> None:
    value, encoded = bytes.fromhex(vector["value"]), bytes.fromhex(vector["bytes"])
    assert write_var_bytes(value) == encoded
    assert read_var_bytes(encoded, 0) == (value, len(encoded))


@given(st.integers(0, MAX_INTEGER), st.binary(max_size=4), st.binary(max_size=4))
def test_an_integer_is_read_from_where_it_stands(value: int, before: bytes, behind: bytes) -> None:
    data = before + write_var_uint(value) + behind
    assert read_var_uint(data, len(before)) == (value, len(data) - len(behind))


def test_leading_zero_groups_are_read_up_to_ten_bytes() -> None:
    assert read_var_uint(b"\x85" + b"\x80" * 8 + b"\x00", 0) == (5, 10)
    with pytest.raises(OverlongInteger):
        read_var_uint(b"\x85" + b"\x80" * 9 + b"\x00", 0)


def test_integers_that_javascript_cannot_mean_are_refused() -> None:
    with pytest.raises(IntegerOutOfRange):
        read_var_uint(write_var_uint(MAX_INTEGER + 1), 0)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff"])
def test_an_integer_that_does_not_end_is_truncated(data: bytes) -> None:
    with pytest.raises(TruncatedMessage):
        read_var_uint(data, 0)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x05abcd", write_var_uint(MAX_INTEGER) + b"abc"])
def test_an_array_shorter_than_its_length_is_truncated(data: bytes) -> None:
    with pytest.raises(TruncatedMessage):
        read_var_bytes(data, 0)


@pytest.mark.parametrize("encoded", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_text_that_is_not_utf8_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidText):
        read_var_string(write_var_bytes(encoded), 0)
