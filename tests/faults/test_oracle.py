"""The oracle itself: it finds what is lost, doubled, torn or made up, and a log with a hole."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.stores.sqlite import open_sqlite
from sync.rooms.ports import Append, Draft
from tests.faults.editor import Editor
from tests.faults.oracle import check, logged


class Silent(Editor):
    """Talks to no server."""


def editor(written: int, *acknowledged: int) -> Silent:
    made = Silent("ada", "one", [])
    for _ in range(written):
        made.write()
    made.note(acknowledged)
    return made


def test_what_is_as_it_should_be_passes() -> None:
    ada = editor(3, 0, 2)
    check("here", "<ada.2><ada.0>", {ada: ada.acknowledged})
    check("here", ada.text, {ada: ada.acknowledged})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<ada.0>", "lacks 1 acknowledged edits"),
        ("<ada.0><ada.1><ada.1>", "more than once"),
        ("<ada.0><ada.1><ada.2>", "nobody wrote"),
        ("<ada.0><ada.1><bob.0>", "nobody wrote"),
    ],
)
def test_what_is_lost_doubled_or_made_up_is_found(text: str, complaint: str) -> None:
    ada = editor(2, 0, 1)
    with pytest.raises(AssertionError, match=complaint):
        check("here", text, {ada: ada.acknowledged})


def test_a_torn_edit_is_found() -> None:
    ada = editor(2, 0)
    with pytest.raises(ValueError, match="beside whole edits"):
        check("here", "<ada.0><ada", {ada: ada.acknowledged})


async def test_a_log_is_read_entry_by_entry(tmp_path: Path) -> None:
    ada = Silent("ada", "one", [])
    store = await open_sqlite(tmp_path / "store.sqlite")
    try:
        await store.append([Append("one", 0, [Draft(ada.write()), Draft(ada.write())], "a")])
        assert await logged(store, "one") == ada.text == "<ada.0><ada.1>"
    finally:
        await store.close()
