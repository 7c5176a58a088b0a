"""The oracle itself: it finds what is lost, doubled, made up or different."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from server.stores.sqlite import open_sqlite
from sync.rooms.ports import Append, Draft
from tests.harness import crowd
from tests.harness.crowd import Crowd
from tests.harness.oracle import Document, check, converge, logged
from tests.nodes.ledger import Ledger

WRITTEN = ["ada.0", "ada.1"]


def test_what_is_as_it_should_be_passes() -> None:
    check("here", ["ada.1", "ada.0"], WRITTEN, WRITTEN)
    check("here", ["ada.1", "ada.0"], ["ada.1"], WRITTEN)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (["ada.0"], "lacks 1 edits"),
        (["ada.0", "ada.1", "ada.1"], "more than once"),
        (["ada.0", "ada.1", "ada.2"], "nobody wrote"),
        (["ada.0", "ada.1", "bob.0"], "nobody wrote"),
    ],
)
def test_what_is_lost_doubled_or_made_up_is_found(found: list[str], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check("here", found, WRITTEN, WRITTEN)


class Copy:
    """A replica that has what it is given."""

    document = "one"

    def __init__(self, *contents: str) -> None:
        self.name = "copy"
        self._contents = list(contents)

    def contents(self) -> list[str]:
        return self._contents


@pytest.mark.parametrize("other", [("ada.0",), ("ada.1", "ada.0"), ("ada.0", "ada.1", "ada.1")])
async def test_replicas_that_differ_do_not_converge(other: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "PATIENCE", 0.1)
    ledger = Ledger()
    for edit in WRITTEN:
        ledger.write("one", edit)
    async with Crowd([], lambda: "") as nobody:
        nobody.write_no_more()
        assert await converge(nobody, [Copy(*WRITTEN), Copy(*WRITTEN)], ledger) >= 0
        with pytest.raises(AssertionError, match="no agreement"):
            await converge(nobody, [Copy(*WRITTEN), Copy(*other)], ledger)


async def test_a_wait_ends_with_what_one_of_the_crowd_could_not_bear() -> None:
    async def fails(no_more: asyncio.Event) -> None:
        raise ConnectionError("too much")

    with pytest.raises(ConnectionError, match="too much"):
        async with Crowd([fails], lambda: "") as one:
            await one.until(lambda: False, "end")


def names(doc: Document) -> list[str]:
    return list(doc.get("edits", type=pycrdt.Array))


def two_edits() -> list[Draft]:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    updates = []
    for edit in WRITTEN:
        before = doc.get_state()
        doc.get("edits", type=pycrdt.Array).append(edit)
        updates.append(Draft(doc.get_update(before)))
    return updates


async def test_a_log_is_read_entry_by_entry(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "store.sqlite")
    try:
        await store.append([Append("one", 0, two_edits(), "a")])
        assert await logged(store, "one", names) == WRITTEN
    finally:
        await store.close()
