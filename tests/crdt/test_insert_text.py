"""The short cut for typed text says yes only where the general path would, and changes the clocks as that would."""

from __future__ import annotations

import random
from typing import Any

import pycrdt
import pytest

from crdt.document import Document, Verdict
from crdt.errors import CrdtError
from crdt.plain import insert_text
from crdt.updates import inspect


def conversation(chance: random.Random, edits: int) -> list[bytes]:
    """Updates of three people who type at random places, delete, and hear each other now and then."""
    people: list[pycrdt.Doc[Any]] = [pycrdt.Doc({"text": pycrdt.Text()}) for _ in range(3)]
    made: list[bytes] = []
    for _ in range(edits):
        doc = chance.choice(people)
        text = doc.get("text", type=pycrdt.Text)
        # pycrdt counts bytes, so what is not ASCII is only written in front of, and never cut.
        plain, length = str(text).isascii(), len(str(text))
        subscription = doc.observe(lambda event: made.append(event.update))
        if length and plain and chance.random() < 0.1:
            at = chance.randrange(length)
            del text[at : at + 1]
        else:
            rare = chance.random() < 0.01
            word = chance.choice(["é", "\U0001f600"] if rare else ["a", "bc", "d", "xyz" * 50])
            text.insert(chance.randint(0, length) if plain else 0, word)
        doc.unobserve(subscription)
        if chance.random() < 0.3:
            other = chance.choice(people)
            other.apply_update(doc.get_update(other.get_state()))
    return made


def agreed(arriving: list[bytes]) -> int:
    """Compare the two for each update; in how many cases the short cut said yes."""
    clocks: dict[int, int] = {}
    taken = 0
    for update in arriving:
        before = dict(clocks)
        info = inspect(update)
        if insert_text(update, clocks):
            taken += 1
            assert not info.deletes
            assert all(before.get(client, 0) >= clock for client, clock in info.needs.items())
            assert all(before.get(client, 0) == start for client, (start, _) in info.inserts.items())
            assert clocks == before | {client: end for client, (_, end) in info.inserts.items()}
        else:
            assert clocks == before
            if all(before.get(client, 0) >= clock for client, clock in info.needs.items()):
                for client, (_, end) in info.inserts.items():
                    clocks[client] = max(clocks.get(client, 0), end)
    return taken


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_the_general_reading(seed: int) -> None:
    chance = random.Random(seed)
    made = conversation(chance, 150)
    # In order, then some twice, so that texts are known already.
    assert agreed(made[:20] + chance.choices(made, k=60) + made + chance.sample(made, k=20)) > 10
    # What one person wrote without what it stands beside.
    for author in {client for update in made for client in inspect(update).inserts}:
        agreed([update for update in made if author in inspect(update).inserts])


@pytest.mark.parametrize("seed", range(10))
def test_one_by_one_and_all_at_once_end_the_same(seed: int) -> None:
    chance = random.Random(seed)
    made = conversation(chance, 120)
    arriving = [chance.choice(made) for _ in range(60)] + made + made[:10]
    together, apart = Document(), Document()
    answers = together.apply_all(arriving)
    for update, answer in zip(arriving, answers, strict=True):
        try:
            verdict: Verdict | type[CrdtError] = apart.apply(update)
        except CrdtError as error:
            verdict = type(error)
        assert verdict == (answer if isinstance(answer, Verdict) else type(answer))
    assert together.state_vector() == apart.state_vector()
    assert text_of(together) == text_of(apart)


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_large_updates_that_are_merged_with_the_document_give_what_one_by_one_gives(order: str) -> None:
    updates = []
    for client in range(30):
        doc: pycrdt.Doc[Any] = pycrdt.Doc({"text": pycrdt.Text()}, client_id=client + 1)
        for letter in f"<{client:02}>" + "x" * 300:
            doc.get("text", type=pycrdt.Text).insert(0, letter)
        updates.append(doc.get_update())
    if order == "descending":
        updates.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(updates)
    merged = Document()
    plain: pycrdt.Doc[Any] = pycrdt.Doc()
    for start in range(0, 30, 10):
        assert merged.apply_all(updates[start : start + 10]) == [Verdict.APPLIED] * 10
    for update in updates:
        plain.apply_update(update)
    assert text_of(merged) == str(plain.get("text", type=pycrdt.Text))
    assert merged.apply_all(updates) == [Verdict.DUPLICATE] * 30


def text_of(document: Document) -> str:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.apply_update(document.encode())
    return str(doc.get("text", type=pycrdt.Text))
