from __future__ import annotations

import pytest

from sync.protocol.errors import BadDocumentName, BadSessionId
from sync.protocol.names import check_address, check_document_name, document_of

GOOD = ["a", "Ünïcode/計画 🌊", "x" * 200, "水" * 66, "with space", "..", "\N{LINE SEPARATOR}"]
BAD = ["", "x" * 201, "水" * 67, "\n", "a\0b", "tab\t", "\x7f", "\x80", "\x9f", "\x1f", "\ud800", "é\x00"]


@pytest.mark.parametrize("name", GOOD)
def test_document_names_are_text_of_at_most_200_bytes(name: str) -> None:
    assert check_document_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_empty_long_and_unprintable_document_names_are_refused(name: str) -> None:
    with pytest.raises(BadDocumentName):
        check_document_name(name)


def test_composed_and_decomposed_names_stay_two_documents() -> None:
    assert check_document_name("\u00e9") != check_document_name("e\u0301")


@pytest.mark.parametrize("name", GOOD)
def test_an_address_is_a_name_or_a_name_with_a_session(name: str) -> None:
    assert document_of(check_address(name)) == name
    assert document_of(check_address(f"{name}\0session-1")) == name


@pytest.mark.parametrize("session_id", ["", "x" * 129, "a\0b", "\n", "水" * 43])
def test_sessions_without_a_proper_id_are_refused(session_id: str) -> None:
    with pytest.raises(BadSessionId):
        check_address(f"plan\0{session_id}")


def test_an_address_without_a_document_is_refused() -> None:
    with pytest.raises(BadDocumentName):
        check_address("\0session-1")
