"""Structs that only continue the one before are joined before yrs sees them, and mean the same."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest
from pycrdt import Array, Doc, Text

from crdt.coding import write_uint
from crdt.document import Document, Verdict
from crdt.errors import MalformedUpdate
from crdt.runs import join_runs
from crdt.updates import decode_state_vector, inspect, merge
from tests.crdt.recordings import ALL, record
from tests.harness.server_process import REPOSITORY

SEEDS = range(12)
COUNT = 40_000
MEMORY = 512 << 20
SECONDS = 120


def structs(kind: str, count: int) -> list[bytes]:
    """One character of text, or one value of an array, behind the other, in a struct each."""
    number, content = (4, b"\x01x") if kind == "text" else (8, b"\x01\x7e")
    first = bytes([number]) + b"\x01\x01t" + content
    return [first, *[bytes([0x80 | number]) + b"\x05" + write_uint(clock) + content for clock in range(count - 1)]]


def together(kind: str, count: int) -> bytes:
    return b"\x01" + write_uint(count) + b"\x05\x00" + b"".join(structs(kind, count)) + b"\x00"


def apart(kind: str, count: int) -> list[bytes]:
    return [b"\x01\x01\x05" + write_uint(clock) + each + b"\x00" for clock, each in enumerate(structs(kind, count))]


def test_typed_letters_become_one_struct() -> None:
    assert join_runs(together("text", 300)) == b"\x01\x01\x05\x00\x04\x01\x01t\xac\x02" + b"x" * 300 + b"\x00"


def test_what_stands_before_something_else_is_not_joined() -> None:
    mine: Doc[Any] = Doc(client_id=5)
    theirs: Doc[Any] = Doc(client_id=6)
    updates: list[bytes] = []
    mine.get("text", type=Text).insert(0, "a")
    theirs.apply_update(mine.get_update())
    theirs.get("text", type=Text).insert(1, "z")
    mine.observe(lambda event: updates.append(event.update))
    mine.apply_update(theirs.get_update())
    mine.get("text", type=Text).insert(1, "b")
    merged = merge([b"\x01\x01\x05\x00\x04\x01\x04text\x01a\x00", *updates])
    assert str(mine.get("text", type=Text)) == "abz"
    assert inspect(merged).copies
    assert join_runs(merged) is merged


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", ALL)
def test_the_joined_update_means_the_same(make: object, seed: int) -> None:
    merged = merge(make(seed))  # type: ignore[operator]
    joined = join_runs(merged)
    whole, parted = Document(), Document()
    assert whole.apply(joined) is parted.apply(merged) is Verdict.APPLIED
    assert decode_state_vector(whole.state_vector()) == decode_state_vector(parted.state_vector())
    assert Doc.get_update(_copy(whole)) == Doc.get_update(_copy(parted))
    assert join_runs(joined) is joined


@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_that_has_a_part_takes_the_rest_of_a_joined_update(seed: int) -> None:
    log = record(seed)
    copy, expected = Document(), Document()
    for update in log[: random.Random(seed).randrange(len(log))]:
        copy.apply(update)
    copy.apply(join_runs(merge(log)))
    expected.apply_all(log)
    assert Doc.get_update(_copy(copy)) == Doc.get_update(_copy(expected))


def test_the_values_of_an_array_keep_their_order() -> None:
    doc: Doc[Any] = Doc()
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    array = doc.get("array", type=Array)
    values = [1, "two", None, [4, {"k": 5}], 0.5, True]
    for value in values:
        array.append(value)
    joined = join_runs(merge(updates))
    assert inspect(joined).copies == 0
    copy: Doc[Any] = Doc()
    copy.apply_update(joined)
    assert copy.get("array", type=Array).to_py() == values


def test_what_is_malformed_is_named() -> None:
    with pytest.raises(MalformedUpdate):
        join_runs(together("text", 10)[:-2])


@pytest.mark.parametrize("kind", ["text", "array"])
@pytest.mark.parametrize("way", ["one update", "many at once", "large ones", "a log"])
def test_many_structs_in_a_row_take_little_memory(kind: str, way: str) -> None:
    """In a process of its own, which would otherwise take gigabytes."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))"
    run = subprocess.run(
        [sys.executable, "-c", f"{limit}\nimport tests.crdt.test_runs as t\nt.take({kind!r}, {way!r})"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, f"{run.returncode}: {run.stderr[-2000:]}"


def take(kind: str, way: str) -> None:
    """Raises unless the structs all become part of a document."""
    updates = apart(kind, COUNT)
    merged = [merge(updates[start : start + 500]) for start in range(0, COUNT, 500)]
    if way == "a log":
        document = Document.load([merge(merged)])
    else:
        document = Document()
        document.apply_all({"one update": [together(kind, COUNT)], "many at once": updates, "large ones": merged}[way])
    if decode_state_vector(document.state_vector()) != {5: COUNT}:
        raise AssertionError("not all of it was taken")


def _copy(document: Document) -> Doc[Any]:
    copy: Doc[Any] = Doc()
    copy.apply_update(document.encode())
    return copy
