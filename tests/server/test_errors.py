from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from crdt import errors as crdt
from server import tokens
from server.access import errors as access
from server.archive import errors as archive
from server.errors import ANSWERS, INTERNAL, CloseCode, answer, code
from server.stores import errors as stores
from sync.protocol import errors as protocol
from sync.rooms import errors as rooms


def public_errors(module: ModuleType) -> list[type[Exception]]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Exception) and each.__module__ == module.__name__
    ]


ERRORS = [each for module in (access, crdt, protocol, rooms, tokens) for each in public_errors(module)]


@pytest.mark.parametrize("error", ERRORS)
def test_every_public_error_has_a_row(error: type[Exception]) -> None:
    assert error in ANSWERS


def test_every_row_is_for_a_public_error() -> None:
    assert set(ANSWERS) == set(ERRORS)


def test_codes_are_stable_words_and_none_means_two_things() -> None:
    codes = [vars(each)["code"] for each in (*ERRORS, *public_errors(stores), *public_errors(archive))]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", each) for each in codes)


def test_the_protocol_page_lists_every_code_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    rows = re.findall(r"^\| (`[a-z`, -]+`) \| (\d{3}) \| (\d{4}) \| \S[^|]* \| \S[^|]* \|$", page, re.MULTILINE)
    listed = [(code, int(status), int(close)) for codes, status, close in rows for code in re.findall(r"[a-z-]+", codes)]
    known = {vars(error)["code"]: row for error, row in ANSWERS.items()} | {"internal": INTERNAL}
    assert sorted(listed) == sorted((code, row.status, row.close_code) for code, row in known.items())


@pytest.mark.parametrize("row", set(ANSWERS.values()))
def test_status_and_close_code_agree(row: tuple[int, CloseCode, str]) -> None:
    status, close_code, title = row
    agreeing = {
        CloseCode.FRAMING: {400},
        CloseCode.TOO_BIG: {413},
        CloseCode.INTERNAL: {500},
        CloseCode.RESTART: {503},
        CloseCode.TRY_LATER: {429, 503},
        CloseCode.MALFORMED: {400, 415},
        CloseCode.UNAUTHENTICATED: {401},
        CloseCode.FORBIDDEN: {403},
        CloseCode.CONFLICT: {409},
        CloseCode.TOO_MANY: {429},
    }
    assert status in agreeing[close_code]
    assert title


def test_an_error_that_the_table_does_not_name_is_its_ancestor_s() -> None:
    class FullDisk(rooms.StoreUnavailable):
        code = "full-disk"

    error = FullDisk("no space left")
    assert answer(error) is ANSWERS[rooms.StoreUnavailable]
    assert code(error) == "full-disk"


def test_an_error_that_nobody_expected_tells_nothing() -> None:
    class Leaky(Exception):
        code = "secret"

    assert answer(Leaky()) is INTERNAL
    assert code(Leaky()) == "internal"
    assert code(KeyError("secret")) == "internal"
