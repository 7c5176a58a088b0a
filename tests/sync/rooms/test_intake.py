"""What is taken of edits: who may write, what fits, and what each one is answered."""

from __future__ import annotations

from collections.abc import Sequence

from crdt.document import Document, Verdict
from crdt.errors import MalformedUpdate, MissingCauses, TooManyParts
from crdt.updates import EMPTY_UPDATE
from crdt.walk import MAX_PARTS
from sync.protocol.lib0 import write_var_uint
from sync.rooms.errors import DocumentTooLarge, Forbidden, UpdateTooLarge
from sync.rooms.intake import Arrival, Intake, Outcome
from sync.rooms.limits import RoomLimits
from sync.rooms.peer import Peer
from tests.sync.rooms.kit import YWS, RecordingOutlet, edits


def said(outcomes: Sequence[Outcome]) -> list[object]:
    """Verdicts as they are, errors by their kind."""
    return [outcome if isinstance(outcome, Verdict) else type(outcome) for outcome in outcomes]


def peer(*, can_write: bool) -> Peer:
    return Peer(RecordingOutlet(), YWS, "d", can_write=can_write)


def arrival(sender: Peer, update: bytes, *, whole: bool = False) -> Arrival:
    return sender, update, whole, sender.grant


def test_outcomes_are_in_the_order_of_the_updates() -> None:
    intake, document = Intake(RoomLimits(update_bytes=100)), Document()
    a, b, large = edits("a", "b", "c" * 101)
    lost = edits("x", "y")[1]
    outcomes = intake.updates(document, [a, a, large, b"no update", lost, b, a], {0})
    assert said(outcomes) == [
        Forbidden, Verdict.APPLIED, UpdateTooLarge, MalformedUpdate, MissingCauses, Verdict.APPLIED, Verdict.DUPLICATE
    ]  # fmt: skip


def test_an_update_of_too_many_parts_is_refused_by_name() -> None:
    structs = write_var_uint(MAX_PARTS + 1)
    update = b"\x01" + structs + b"\x05\x00" + b"\x00\x01" * (MAX_PARTS + 1) + b"\x00"
    document = Document()
    assert said(Intake(RoomLimits()).updates(document, [update, edits("a")[0]])) == [TooManyParts, Verdict.APPLIED]


def test_a_reader_may_say_what_is_known_and_nothing_else() -> None:
    intake, document = Intake(RoomLimits()), Document()
    reader, writer = peer(can_write=False), peer(can_write=True)
    a, b = edits("a", "b")
    arrivals = [arrival(reader, a), arrival(writer, a), arrival(reader, EMPTY_UPDATE, whole=True)]
    assert said(intake.arrivals(document, arrivals)) == [Forbidden, Verdict.APPLIED, Verdict.DUPLICATE]
    arrivals = [arrival(reader, a), arrival(reader, b), arrival(writer, b)]
    assert said(intake.arrivals(document, arrivals)) == [Verdict.DUPLICATE, Forbidden, Verdict.APPLIED]


def test_what_does_not_fit_is_refused_and_what_does_is_taken() -> None:
    intake, document = Intake(RoomLimits(document_bytes=3000)), Document()
    small, large, other = edits("a" * 2000)[0], edits("b" * 2000)[0], edits("c" * 500)[0]
    assert said(intake.updates(document, [small, large, small, other])) == [
        Verdict.APPLIED, DocumentTooLarge, Verdict.DUPLICATE, Verdict.APPLIED
    ]  # fmt: skip
