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
from crdt.errors import (
    CrdtError,
    MalformedStateVector,
    MalformedUpdate,
    MissingCauses,
    TooManyClients,
    TooManyParts,
    TooManyTypes,
)
from crdt.updates import EMPTY_UPDATE, MAX_VECTOR_CLIENTS, decode_state_vector, encode_state_vector, inspect, merge
from crdt.walk import MAX_PARTS
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


COSTLY = [
    ("structs", b"\x01\x0a\x05\x00" + b"\x00\x01" * 10 + b"\x00", 13),
    ("text beside text", b"\x01\x02\x05\x00" + b"\x44\x07\x00\x01x" * 2 + b"\x00", 5),
    ("other items", b"\x01\x02\x05\x00" + b"\x04\x01\x01t\x01x" * 2 + b"\x00", 7),
    ("sections", b"\x03" + b"".join(b"\x01" + bytes([client]) + b"\x00\x00\x01" for client in range(3)) + b"\x00", 12),
    ("plain values", b"\x01\x01\x05\x00\x08\x01\x01t\x0a" + b"\x7e" * 10 + b"\x00", 15),
    ("nested values", b"\x01\x01\x05\x00\x08\x01\x01t\x01\x75\x0a" + b"\x7e" * 10 + b"\x00", 16),
    ("characters that are pairs", b"\x01\x01\x05\x00\x04\x01\x01t\x14" + "\U0001f600".encode() * 5 + b"\x00", 10),
    ("deleted ranges", b"\x00\x01\x05\x03\x00\x01\x02\x01\x04\x01", 4),
]


@pytest.mark.parametrize(("update", "parts"), [each[1:] for each in COSTLY], ids=[each[0] for each in COSTLY])
def test_all_that_takes_time_counts_as_a_part(update: bytes, parts: int) -> None:
    inspect(update, parts)
    with pytest.raises(TooManyParts):
        inspect(update, parts - 1)


def test_too_many_parts_are_refused_before_they_are_walked() -> None:
    structs = MAX_PARTS + 1
    broken = b"\x01" + write_uint(structs) + b"\x05\x00" + b"\xff" * 2 * structs
    document = Document()
    with pytest.raises(TooManyParts):
        document.apply(broken)
    assert document.encode() == EMPTY_UPDATE


def test_what_twenty_thousand_pages_wrote_is_taken_whole() -> None:
    sections = [b"\x01" + write_uint(2**31 + page) + b"\x00\x04\x01\x01t\x01x" for page in range(20_000)]
    update = write_uint(len(sections)) + b"".join(sections) + b"\x00"
    document = Document()
    assert document.apply(update) is Verdict.APPLIED
    place = document.place(document.state_vector())
    assert len(decode_state_vector(place)) == 20_000
    assert document.diff(place) == EMPTY_UPDATE


def edits_of(clients: range) -> list[bytes]:
    """A character from each client: the first begins a text, the others write behind its character."""
    first, *others = clients
    behind = write_uint(first) + b"\x00"
    return [
        b"\x01\x01" + write_uint(first) + b"\x00\x04\x01\x01t\x01x\x00",
        *[b"\x01\x01" + write_uint(other) + b"\x00\x84" + behind + b"\x01x\x00" for other in others],
    ]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_document_has_edits_of_so_many_clients_and_no_more(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    monkeypatch.setattr("crdt.document.MAX_CLIENTS", 10)
    updates = edits_of(range(100, 112))
    document = Document()
    answers = document.apply_all(updates) if at_once else [answer for each in updates for answer in document.apply_all([each])]
    assert answers[:10] == [Verdict.APPLIED] * 10
    assert [type(answer) for answer in answers[10:]] == [TooManyClients] * 2
    further = b"\x01\x01\x65\x01\x84\x65\x00\x01y\x00"
    assert document.apply(further) is Verdict.APPLIED
    assert document.apply(updates[3]) is Verdict.DUPLICATE


def test_what_is_logged_is_taken_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdt.document.MAX_CLIENTS", 2)
    monkeypatch.setattr("crdt.document.MAX_PARTS", 2)
    updates = [*edits_of(range(100, 104)), b"\x01\x01\x05\x00\x04\x01\x01u\x04" + "\U0001f600".encode() + b"\x00"]
    document = Document()
    assert document.apply_all(updates, logged=True) == [Verdict.APPLIED] * 5
    for loaded in (Document.load(updates), Document.load([], document.encode())):
        assert decode_state_vector(loaded.state_vector()) == decode_state_vector(document.state_vector())


def test_a_state_vector_has_few_more_clients_than_a_document() -> None:
    document = Document()
    clocks = dict.fromkeys(range(MAX_VECTOR_CLIENTS), 1)
    assert document.place(encode_state_vector(clocks)) == b"\x00"
    vector = encode_state_vector(clocks | {2**50: 1})
    for ask in (document.place, document.diff):
        with pytest.raises(MalformedStateVector, match="more than 120000"):
            ask(vector)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_document_contains_what_would_change_nothing(seed: int) -> None:
    log = record(seed, edits=100)
    document = Document()
    document.apply_all(log[:60])
    state = document.encode()
    found = set()
    for update in [*log, state, merge(log[:30]), merge(log[:80])]:
        outcome = Document.load([state]).apply_all([update])[0]
        contained = document.contains(update, deletions=True)
        assert contained == (outcome is Verdict.DUPLICATE)
        found.add(contained)
        if inspect(update).deletes:
            assert not document.contains(update, deletions=False)
    assert found == {True, False}
    assert document.encode() is state
