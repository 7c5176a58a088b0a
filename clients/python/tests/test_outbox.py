from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbtide_client.errors import OutboxFailed, OutboxInUse
from ebbtide_client.outbox import Outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    box = Outbox(path)
    yield box
    box.close()


def updates_of(box: Outbox, document: str, max_entries: int = 100, max_bytes: int = 1000) -> list[bytes]:
    return [entry.update for entry in box.pending([document], 0, max_entries, max_bytes)]


def test_edits_are_in_log_and_outbox_and_others_updates_in_the_log_alone(outbox: Outbox) -> None:
    outbox.record("a", [b"1", b"2"])
    outbox.receive("a", b"3")
    outbox.record("b", [b"4"])
    assert outbox.load("a").updates == [b"1", b"2", b"3"]
    assert outbox.load("a").unsynced == 2
    assert updates_of(outbox, "a") == [b"1", b"2"]
    assert outbox.unsynced() == {"a": 2, "b": 1}


def test_a_document_that_is_not_there_is_empty(outbox: Outbox) -> None:
    stored = outbox.load("nothing")
    assert (stored.updates, stored.lineage, stored.unsynced, stored.rejected) == ([], None, 0, [])


def test_pending_keeps_to_its_bounds_but_gives_one(outbox: Outbox) -> None:
    outbox.record("a", [b"x" * 10] * 5)
    assert len(updates_of(outbox, "a", max_entries=3)) == 3
    assert len(updates_of(outbox, "a", max_bytes=25)) == 2
    assert len(updates_of(outbox, "a", max_bytes=1)) == 1
    assert updates_of(outbox, "a", max_entries=0) == []


def test_pending_goes_on_after_an_id_and_carries_the_lineage(outbox: Outbox) -> None:
    outbox.record("a", [b"1", b"2"])
    outbox.set_lineage("a", "L")
    first, second = outbox.pending(["a"], 0, 10, 10)
    assert outbox.pending(["a"], first.id, 10, 10) == [second]
    assert second.lineage == "L"


def test_ids_are_never_used_twice(outbox: Outbox) -> None:
    outbox.record("a", [b"1"])
    [first] = outbox.pending(["a"], 0, 10, 10)
    assert outbox.remove([first.id]) == 1
    assert outbox.remove([first.id]) == 0
    outbox.record("a", [b"2"])
    [second] = outbox.pending(["a"], 0, 10, 10)
    assert second.id > first.id


def test_rejected_entries_wait_no_more_until_they_are_retried_at_their_old_place(outbox: Outbox) -> None:
    outbox.record("a", [b"1", b"2"])
    first, _ = outbox.pending(["a"], 0, 10, 10)
    assert outbox.reject(first.id, "bad", "it is bad")
    assert not outbox.reject(first.id, "bad", "again")
    assert updates_of(outbox, "a") == [b"2"]
    [rejected] = outbox.load("a").rejected
    assert (rejected.update, rejected.code, rejected.reason) == (b"1", "bad", "it is bad")
    assert outbox.retry("a") == 1
    assert updates_of(outbox, "a") == [b"1", b"2"]
    assert outbox.load("a").rejected == []


def test_compaction_replaces_the_log_up_to_an_entry(outbox: Outbox) -> None:
    outbox.record("a", [b"1", b"2"])
    outbox.record("b", [b"other"])
    last = outbox.last("a")
    outbox.receive("a", b"3")
    outbox.compact("a", last, b"12")
    assert outbox.load("a").updates == [b"12", b"3"]
    assert outbox.load("b").updates == [b"other"]
    assert updates_of(outbox, "a") == [b"1", b"2"]


def test_discard_forgets_the_document_and_hands_out_what_was_not_confirmed(outbox: Outbox) -> None:
    outbox.record("a", [b"1", b"2", b"3"])
    first, second, _ = outbox.pending(["a"], 0, 10, 10)
    outbox.remove([first.id])
    outbox.reject(second.id, "bad", "it is bad")
    outbox.set_lineage("a", "L")
    assert outbox.discard("a") == [b"2", b"3"]
    stored = outbox.load("a")
    assert (stored.updates, stored.lineage, stored.unsynced, stored.rejected) == ([], None, 0, [])


def test_everything_is_there_after_reopening(path: Path) -> None:
    box = Outbox(path)
    box.record("a", [b"1", b"2"])
    box.set_lineage("a", "L")
    device = box.device
    box.close()
    box = Outbox(path)
    stored = box.load("a")
    assert (stored.updates, stored.lineage, stored.unsynced) == ([b"1", b"2"], "L", 2)
    assert box.device == device
    box.close()


def test_a_killed_process_leaves_every_recorded_edit_and_no_lock(path: Path) -> None:
    script = f"""
from ebbtide_client.outbox import Outbox
box = Outbox({str(path)!r})
for number in range(1_000_000):
    box.record("a", [str(number).encode()])
    print(number, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(50):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    printed = child.stdout.read().split()
    child.stdout.close()
    child.wait()
    last = int(printed[-1]) if printed else 49
    box = Outbox(path)
    stored = box.load("a")
    assert stored.updates[: last + 1] == [str(number).encode() for number in range(last + 1)]
    assert stored.unsynced == len(stored.updates)
    box.close()


NORMAL, FULL = 1, 2
"""SQLite's levels: FULL flushes the write-ahead log to the disk at each commit, NORMAL does not."""

DURABLE = pytest.mark.parametrize(
    ("work", "fsyncs"),
    [
        (lambda box: box.record("a", [b"edit"]), True),
        (lambda box: box.replace(1, b"wider"), True),
        (lambda box: box.compact("a", 1, b"state"), True),
        (lambda box: box.receive("a", b"another's"), False),
        (lambda box: box.remove([1]), False),
    ],
    ids=["record", "replace", "compact", "receive", "remove"],
)


@DURABLE
def test_a_loss_of_power_takes_nothing_that_was_recorded(path: Path, work: Callable[[Outbox], object], fsyncs: bool) -> None:
    """The level of the last transaction."""
    box = Outbox(path)
    box.record("a", [b"first"])
    work(box)
    assert box._db.execute("PRAGMA synchronous").fetchone() == (FULL if fsyncs else NORMAL,)
    box.close()


def test_a_second_owner_is_refused(outbox: Outbox, path: Path) -> None:
    with pytest.raises(OutboxInUse):
        Outbox(path)


def test_what_is_no_outbox_is_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database " * 1000)
    with pytest.raises(OutboxFailed):
        Outbox(garbage)
    with pytest.raises(OutboxFailed):
        Outbox(tmp_path / "no folder" / "outbox.sqlite")


def test_the_outbox_of_a_newer_client_is_left_alone(path: Path) -> None:
    Outbox(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(OutboxFailed, match="version 99"):
        Outbox(path)


def test_a_closed_outbox_says_so(path: Path) -> None:
    box = Outbox(path)
    box.close()
    box.close()
    with pytest.raises(OutboxFailed):
        box.record("a", [b"1"])
