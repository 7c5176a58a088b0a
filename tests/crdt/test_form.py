from __future__ import annotations

import random

import pytest

from crdt.document import Document
from crdt.errors import CrdtError, MalformedUpdate
from crdt.form import same_document
from tests.crdt.recordings import record


def applied(seed: int) -> list[bytes]:
    """Real updates in an order in which each can be applied and adds something."""
    document = Document()
    updates = record(seed)
    return [update for update in updates if not isinstance(document.apply_all([update])[0], CrdtError)]


@pytest.mark.parametrize("seed", range(60))
def test_how_a_document_came_about_makes_no_difference(seed: int) -> None:
    chance, updates = random.Random(seed), applied(seed)
    one, cut = Document(), chance.randrange(len(updates))
    at_once = Document.load(updates)
    resumed = Document.load([Document.load(updates[:cut]).encode()])
    resumed.apply_all(updates[cut:])
    for start in range(0, len(updates), 7):
        one.apply_all(updates[start : start + 7])
    assert same_document(one.encode(), at_once.encode())
    assert same_document(one.encode(), resumed.encode())
    assert same_document(resumed.encode(), Document.load([at_once.encode()]).encode())


@pytest.mark.parametrize("seed", range(60))
def test_an_edit_more_makes_a_difference(seed: int) -> None:
    updates = applied(seed)
    for left_out in (updates[:-1], updates[: len(updates) // 2]):
        before, after = Document.load(left_out), Document.load(updates)
        nothing_new = all(before.contains(update, deletions=True) for update in updates[len(left_out) :])
        assert same_document(before.encode(), after.encode()) == nothing_new


def test_other_content_at_the_same_clocks_makes_a_difference() -> None:
    for seed in range(40):
        encoded = Document.load(applied(seed)).encode()
        at = encoded.find(b"tide")
        if at >= 0:
            other = encoded[:at] + b"tibe" + encoded[at + 4 :]
            if Document.load([other]).encode().find(b"tibe") >= 0:
                assert not same_document(encoded, other)
                return
    raise AssertionError("no recording was of use")


def test_what_is_malformed_is_said_to_be() -> None:
    with pytest.raises(MalformedUpdate):
        same_document(b"\x00\x00", b"\x01\x02")
