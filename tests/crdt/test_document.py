"""Documents: what is applied, what adds nothing, what is refused, and that refusing leaves no trace."""

from __future__ import annotations

import gzip
import json
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Array, Doc, Map, Text

from crdt.coding import write_uint
from crdt.document import Document, Verdict
from crdt.errors import CrdtError, MalformedStateVector, MalformedUpdate, MissingCauses, TooManyTypes
from crdt.updates import EMPTY_UPDATE, decode_state_vector, inspect, merge
from tests.crdt.recordings import ALL, record

SEEDS = range(12)


def plain(updates: list[bytes]) -> Doc[Any]:
    doc: Doc[Any] = Doc()
    for update in updates:
        doc.apply_update(update)
    return doc


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", ALL)
def test_real_updates_are_taken_and_give_what_yrs_gives(make: object, seed: int) -> None:
    updates = make(seed)  # type: ignore[operator]
    document = Document()
    for update in updates:
        assert document.apply(update) in Verdict
    expected = plain(updates)
    assert decode_state_vector(document.state_vector()) == decode_state_vector(expected.get_state())
    assert plain([document.encode()]).get_update() == plain([expected.get_update()]).get_update()


@pytest.mark.parametrize("seed", SEEDS)
def test_together_is_as_one_by_one(seed: int) -> None:
    log = record(seed)
    rng = random.Random(seed)
    rng.shuffle(log)
    log += rng.sample(log, 10)
    single = Document()
    verdicts: list[object] = []
    for update in log:
        try:
            verdicts.append(single.apply(update))
        except CrdtError as error:
            verdicts.append(type(error))
    together = Document().apply_all(log)
    assert [type(each) if isinstance(each, CrdtError) else each for each in together] == verdicts


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_known_is_a_duplicate(seed: int) -> None:
    log = record(seed)
    document = Document()
    document.apply_all(log)
    before = document.encode()
    assert set(document.apply_all(log)) == {Verdict.DUPLICATE}
    assert document.apply(before) is Verdict.DUPLICATE
    assert document.apply(EMPTY_UPDATE) is Verdict.DUPLICATE
    assert document.encode() is before


@pytest.mark.parametrize("seed", SEEDS)
def test_missing_causes_are_recognised_and_leave_no_trace(seed: int) -> None:
    log = record(seed, clients=2)
    document = Document()
    document.apply_all(log[:5])
    state, clocks = document.encode(), document.state_vector()
    refused = 0
    for update in log[20:]:
        (verdict,) = document.apply_all([update])
        if isinstance(verdict, MissingCauses):
            refused += 1
            assert verdict.missing
        else:
            state, clocks = document.encode(), document.state_vector()
        assert (document.encode(), document.state_vector()) == (state, clocks)
    assert refused
    assert Verdict.APPLIED in document.apply_all(log)
    assert plain([document.encode()]).get_update() == plain([plain(log).get_update()]).get_update()


def test_a_hole_is_a_missing_cause() -> None:
    doc: Doc[Any] = Doc(client_id=5)
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    for name in ("a", "b"):
        doc.get(name, type=Text).insert(0, "x")
    document = Document()
    with pytest.raises(MissingCauses) as caught:
        document.apply(updates[1])
    assert caught.value.missing == {5: 1}
    assert decode_state_vector(document.state_vector()) == {}


def test_a_deletion_is_applied_once() -> None:
    doc: Doc[Any] = Doc()
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    text = doc.get("text", type=Text)
    text.insert(0, "tide")
    del text[1:3]
    document = Document()
    with pytest.raises(MissingCauses):
        document.apply(updates[1])
    assert document.apply_all([*updates, updates[1]]) == [Verdict.APPLIED, Verdict.APPLIED, Verdict.DUPLICATE]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_diff_brings_a_copy_up_to_date(seed: int) -> None:
    log = record(seed)
    document, copy = Document(), Document()
    document.apply_all(log)
    copy.apply_all(log[: len(log) // 2])
    copy.apply(document.diff(copy.state_vector()))
    assert decode_state_vector(copy.state_vector()) == decode_state_vector(document.state_vector())
    assert copy.apply(document.encode()) is Verdict.DUPLICATE


@pytest.mark.parametrize("state_vector", [b"", b"\x01", b"\x01\x05", b"\xff\xff\xff\xff\x0f", b"\x00\x00", b"\x80" * 20])
def test_a_malformed_state_vector_is_named(state_vector: bytes) -> None:
    with pytest.raises(MalformedStateVector):
        Document().diff(state_vector)


def test_a_state_vector_maps_clients_to_clocks() -> None:
    clocks = {1: 5, 2**53 - 1: 2**30, 77: 0}
    encoded = b"".join(map(write_uint, (len(clocks), *chain.from_iterable(clocks.items()))))
    assert decode_state_vector(encoded) == clocks


@pytest.mark.parametrize("seed", SEEDS)
def test_a_merge_is_what_was_merged(seed: int) -> None:
    log = record(seed, edits=100)
    document = Document()
    assert document.apply(merge(log)) is Verdict.APPLIED
    assert set(document.apply_all(log)) == {Verdict.DUPLICATE}


def test_a_merge_of_nothing_is_empty() -> None:
    assert merge([]) == EMPTY_UPDATE


@pytest.mark.parametrize("seed", SEEDS)
def test_loading_is_the_log(seed: int) -> None:
    log = record(seed)
    document = Document()
    document.apply_all(log[:30])
    snapshot = document.encode()
    document.apply_all(log[30:])
    loaded = Document.load(log[30:], snapshot)
    assert decode_state_vector(loaded.state_vector()) == decode_state_vector(document.state_vector())
    assert loaded.apply(document.encode()) is Verdict.DUPLICATE


def test_what_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(MalformedUpdate):
        Document.load([b"\x01\x02\x03"])


def test_text_that_is_not_utf_8_is_refused() -> None:
    update = bytes.fromhex("010105000401017402") + b"\xff\xfe\x00"
    with pytest.raises(MalformedUpdate):
        inspect(update)
    assert inspect(bytes.fromhex("010105000401017402") + b"ab\x00").inserts == {5: (0, 2)}


@pytest.mark.parametrize(
    "update",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\xff\x0f\x00",
        b"\x01\xff\xff\xff\xff\x0f\x05\x00",
        b"\x00\xff\xff\xff\xff\x0f",
        b"\x00\x00\x00",
        bytes.fromhex("0101050008010174") + b"\x75\x01" * 100_000,
    ],
)
def test_few_bytes_cannot_ask_for_much(update: bytes) -> None:
    document = Document()
    with pytest.raises(MalformedUpdate):
        document.apply(update)
    assert document.encode() == EMPTY_UPDATE


def test_two_people_typing_at_once_end_with_the_recorded_text(traces: Path) -> None:
    session = json.loads(gzip.decompress((traces / "automerge-paper.json.gz").read_bytes()))
    doc: Doc[Any] = Doc(client_id=1)
    text = doc.get("text", type=Text)
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    written = 0
    for transaction in session["txns"][:20_000]:
        with doc.transaction():
            for at, deleted, inserted in transaction["patches"]:
                if deleted:
                    del text[at : at + deleted]
                if inserted:
                    text.insert(at, inserted)
        written += 1
    document = Document()
    for start in range(0, len(updates), 100):
        assert set(document.apply_all(updates[start : start + 100])) == {Verdict.APPLIED}
    copy: Doc[Any] = Doc()
    copy.apply_update(document.encode())
    assert written
    assert str(copy.get("text", type=Text)) == str(text)


def maps_in_a_list(count: int) -> tuple[Doc[Any], list[bytes]]:
    doc: Doc[Any] = Doc({"list": Array()})
    updates: list[bytes] = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    for number in range(count):
        doc["list"].append(Map({"number": number}))
    doc.unobserve(subscription)
    return doc, updates


def test_a_document_has_so_many_nested_types_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdt.document.MAX_TYPES", 10)
    _, updates = maps_in_a_list(12)
    document = Document()
    answers = document.apply_all(updates)
    assert answers[:10] == [Verdict.APPLIED] * 10
    assert isinstance(answers[10], TooManyTypes)
    state = document.encode()
    with pytest.raises(TooManyTypes):
        document.apply(updates[10])
    assert document.encode() == state


@pytest.mark.parametrize("reloaded", [False, True])
def test_what_is_deleted_makes_room_for_other_nested_types(monkeypatch: pytest.MonkeyPatch, reloaded: bool) -> None:
    monkeypatch.setattr("crdt.document.MAX_TYPES", 10)
    doc, updates = maps_in_a_list(10)
    document = Document()
    document.apply_all(updates)
    before = doc.get_state()
    del doc["list"][0:8]
    document.apply(doc.get_update(before))
    if reloaded:
        document = Document.load([document.encode()])
    before = doc.get_state()
    doc["list"].append(Map({"number": 11}))
    assert document.apply(doc.get_update(before)) is Verdict.APPLIED
