from __future__ import annotations

from pathlib import Path

import pytest

from sync.protocol import errors
from sync.protocol.errors import ProtocolError

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
ERRORS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, ProtocolError) and each is not ProtocolError
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_code_is_documented(error: type[ProtocolError]) -> None:
    assert f"\n| `{error.code}` | " in PAGE


def test_codes_are_different() -> None:
    assert len({error.code for error in ERRORS}) == len(ERRORS)
