"""The journal: tickets, runs by author, and who is told what once an append is settled."""

from __future__ import annotations

import pytest

from sync.rooms.errors import StoreUnavailable
from sync.rooms.journal import Journal
from sync.rooms.peer import Peer
from sync.rooms.pending import PendingBytes
from sync.rooms.ports import Draft, Entry
from tests.sync.rooms.kit import YWS, RecordingOutlet, edits, text_of


def peer() -> Peer:
    return Peer(RecordingOutlet(), YWS, "d", can_write=True)


def entries(after: int, drafts: list[Draft]) -> list[Entry]:
    return [Entry(seq, *draft, time=0) for seq, draft in enumerate(drafts, after + 1)]


async def test_tickets_count_updates_and_the_head_counts_entries() -> None:
    journal = Journal(PendingBytes(0), head=7)
    assert [journal.add(update, "ada") for update in edits("a", "b", "c")] == [1, 2, 3]
    assert journal.head == 7
    assert not journal.idle
    assert len(journal.take()) == 1
    journal.settle()
    assert (journal.head, journal.durable, journal.applied) == (8, 3, 3)
    assert journal.idle
    assert not journal.in_flight


async def test_consecutive_updates_of_one_author_and_device_become_one_entry_and_others_stay_apart() -> None:
    journal = Journal(PendingBytes(0))
    a, b, c, d, e = edits("a", "b", "c", "d", "e")
    for update, author, device in [
        (a, "ada", "x"),
        (b, "ada", "x"),
        (c, "bob", "x"),
        (d, "ada", "x"),
        (e, "ada", "y"),
    ]:
        journal.add(update, author, device)
    drafts = journal.take()
    assert [(draft.author, draft.device) for draft in drafts] == [
        ("ada", "x"),
        ("bob", "x"),
        ("ada", "x"),
        ("ada", "y"),
    ]
    assert text_of([drafts[0].update]) == "ab"
    assert [draft.update for draft in drafts[1:]] == [c, d, e]


async def test_what_was_taken_is_taken_again_unchanged_until_it_is_settled() -> None:
    journal = Journal(PendingBytes(0))
    a, b = edits("a", "b")
    journal.add(a)
    first = list(journal.take())
    journal.add(b)
    assert list(journal.take()) == first
    assert not journal.all_taken
    journal.settle()
    assert [draft.update for draft in journal.take()] == [b]
    assert journal.all_taken


async def test_frames_are_due_with_their_ticket_in_order_and_by_peer() -> None:
    journal = Journal(PendingBytes(0))
    ada, bob = peer(), peer()
    a, b, c = edits("a", "b", "c")
    journal.owe(journal.add(a), ada, b"1")
    journal.owe(journal.add(b), bob, b"2")
    journal.take()
    journal.owe(journal.applied, ada, b"3")
    journal.owe(journal.add(c), ada, b"4")
    assert journal.settle() == [(ada, b"1"), (bob, b"2"), (ada, b"3")]
    journal.take()
    assert journal.settle() == [(ada, b"4")]


async def test_who_waits_is_told_the_number_of_the_entry_that_holds_the_ticket() -> None:
    journal = Journal(PendingBytes(0), head=10)
    tickets = [journal.add(u, author) for u, author in zip(edits("a", "b", "c"), ["x", "x", "y"], strict=True)]
    waiting = [journal.wait(ticket) for ticket in tickets]
    assert not any(future.done() for future in waiting)
    journal.take()
    journal.settle()
    assert [future.result() for future in waiting] == [11, 11, 12]
    assert (await journal.wait(1)) == 12


async def test_a_future_that_was_given_up_does_not_stop_the_others() -> None:
    journal = Journal(PendingBytes(0))
    ticket = journal.add(edits("a")[0])
    gone, there = journal.wait(ticket), journal.wait(ticket)
    gone.cancel()
    journal.take()
    journal.settle()
    assert there.result() == 1


async def test_a_flight_is_recognised_by_content_author_and_device() -> None:
    journal = Journal(PendingBytes(0))
    a, b, c = edits("a", "b", "c")
    journal.add(a, "ada")
    journal.add(b, "bob")
    flight = list(journal.take())
    assert journal.is_flight(entries(0, flight))
    assert journal.is_flight(entries(0, [*flight, Draft(c)]))
    assert not journal.is_flight(entries(0, flight[:1]))
    assert not journal.is_flight(entries(0, [Draft(a, "eve"), Draft(b, "bob")]))
    assert not journal.is_flight(entries(0, [Draft(a, "ada", "elsewhere"), Draft(b, "bob")]))
    assert not journal.is_flight(entries(0, [Draft(c), *flight]))
    journal.settle()
    assert not journal.is_flight(entries(0, flight))


async def test_pending_bytes_are_those_that_are_not_durable() -> None:
    pending = PendingBytes(0)
    journal, other = Journal(pending), Journal(pending)
    a, b, c = edits("a", "b" * 100, "c")
    other.add(c)
    journal.add(a)
    journal.take()
    journal.add(b)
    assert journal.pending_bytes == len(a) + len(b)
    assert pending.held == len(a) + len(b) + len(c)
    journal.settle()
    assert journal.pending_bytes == len(b)
    assert pending.held == len(b) + len(c)
    journal.take()
    journal.settle()
    assert journal.pending_bytes == 0
    assert pending.held == len(c)


async def test_what_a_failed_journal_held_counts_no_more_and_once() -> None:
    pending = PendingBytes(0)
    journal = Journal(pending)
    a, b = edits("a", "b")
    journal.add(a)
    journal.take()
    journal.add(b)
    journal.fail(StoreUnavailable("gone"))
    assert pending.held == 0
    journal.settle()
    assert pending.held == journal.pending_bytes == 0


async def test_a_failed_journal_owes_nothing_and_tells_who_waits() -> None:
    journal = Journal(PendingBytes(0))
    ticket = journal.add(edits("a")[0])
    journal.owe(ticket, peer(), b"never")
    future = journal.wait(ticket)
    journal.take()
    journal.fail(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await future
    assert journal.settle() == []
