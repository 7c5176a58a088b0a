from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pycrdt import Doc, Text

from ebbtide_client.errors import LineageDiffers, OutboxFailed, UnexpectedAnswer
from ebbtide_client.outbox import Outbox
from ebbtide_client.replica import Replica


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite")
    yield box
    box.close()


def load(outbox: Outbox) -> Replica:
    return Replica("notes", outbox, outbox.load("notes"))


def text_of(replica: Replica) -> Text:
    text: Text = replica.ydoc.get("text", type=Text)
    return text


def theirs(content: str) -> bytes:
    doc = Doc({"text": Text(content)})
    return doc.get_update()


async def test_whatever_is_done_to_the_document_is_recorded(outbox: Outbox) -> None:
    replica = load(outbox)
    text = text_of(replica)
    text += "plain"
    with replica.ydoc.transaction():
        text += " one"
        text += " transaction"
    with replica.edit() as ydoc:
        ydoc.get("text", type=Text).insert(0, "edit ")
    del text[0:5]
    assert replica.status.unsynced == 4
    assert str(text_of(load(outbox))) == "plain one transaction"


async def test_what_the_server_sent_survives_too_but_is_not_sent_back(outbox: Outbox) -> None:
    replica = load(outbox)
    replica.integrate(theirs("theirs"))
    replica.integrate(b"\x00\x00")
    again = load(outbox)
    assert str(text_of(again)) == "theirs"
    assert again.status.unsynced == 0
    assert outbox.unsynced() == {}


async def test_what_came_twice_is_kept_once(outbox: Outbox) -> None:
    replica = load(outbox)
    update = theirs("theirs")
    for _ in range(3):
        replica.integrate(update)
    assert len(outbox.load("notes").updates) == 1


async def test_an_update_before_its_causes_is_kept_when_they_come(outbox: Outbox) -> None:
    doc: Doc[Text] = Doc()
    updates: list[bytes] = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    text = doc.get("text", type=Text)
    text += "first"
    text += " second"
    doc.unobserve(subscription)
    replica = load(outbox)
    replica.integrate(updates[1])
    replica.integrate(updates[0])
    assert str(text_of(replica)) == str(text_of(load(outbox))) == "first second"


async def test_an_exception_in_an_edit_leaves_what_was_done_recorded(outbox: Outbox) -> None:
    replica = load(outbox)

    def edit_and_fail() -> None:
        with replica.edit() as ydoc:
            ydoc.get("text", type=Text).insert(0, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        edit_and_fail()
    assert str(text_of(load(outbox))) == "half"
    assert replica.status.unsynced == 1


async def test_an_edit_that_cannot_be_written_is_told_and_written_with_the_next(outbox: Outbox, tmp_path: Path) -> None:
    replica = load(outbox)
    text = text_of(replica)
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxFailed, match="full"), replica.edit():
        text.insert(0, "x" * 100_000)
    with pytest.raises(ExceptionGroup) as caught:
        text.insert(0, "y")
    assert caught.group_contains(OutboxFailed)
    assert replica.status.unsynced == 0
    assert not replica.outgoing.is_set()
    outbox._db.execute("PRAGMA max_page_count = 1000000")
    text.insert(0, "z")
    assert replica.status.unsynced == 3
    again = load(outbox)
    assert again.status.unsynced == 3
    assert str(text_of(again)) == "zy" + "x" * 100_000


async def test_compaction_leaves_the_document_and_the_outbox_as_they_were(outbox: Outbox) -> None:
    replica = load(outbox)
    text = text_of(replica)
    for letter in "abcdef":
        text += letter
    await replica.compact(after=10)
    assert len(outbox.load("notes").updates) == 6
    await replica.compact(after=5)
    stored = outbox.load("notes")
    assert (len(stored.updates), stored.unsynced) == (1, 6)
    text += "g"
    assert str(text_of(load(outbox))) == "abcdefg"


async def test_no_compaction_while_an_edit_could_not_be_written(outbox: Outbox) -> None:
    replica = load(outbox)
    text = text_of(replica)
    for letter in "abcdef":
        text += letter
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxFailed), replica.edit():
        text.insert(0, "x" * 100_000)
    outbox._db.execute("PRAGMA max_page_count = 1000000")
    await replica.compact(after=1)
    assert str(text_of(load(outbox))) == "abcdef"


async def test_the_first_lineage_is_taken_and_another_refused(outbox: Outbox) -> None:
    replica = load(outbox)
    replica.trace(None)
    replica.trace("one")
    replica.trace("one")
    again = load(outbox)
    assert again.lineage == "one"
    with pytest.raises(LineageDiffers):
        again.trace("two")
    assert load(outbox).lineage == "one"


async def test_garbage_from_the_server_is_named_and_changes_nothing(outbox: Outbox) -> None:
    replica = load(outbox)
    with pytest.raises(UnexpectedAnswer):
        replica.integrate(b"\xff\x01garbage")
    text = text_of(replica)
    text += "still records"
    assert replica.status.unsynced == 1


async def test_edits_of_a_discarded_copy_are_refused(outbox: Outbox) -> None:
    replica = load(outbox)
    replica.discard()
    with pytest.raises(OutboxFailed), replica.edit() as ydoc:
        ydoc.get("text", type=Text).insert(0, "lost?")


async def test_who_watches_sees_the_newest_status(outbox: Outbox) -> None:
    replica = load(outbox)
    changes = replica.changes()
    assert (await anext(changes)).unsynced == 0
    text = text_of(replica)
    text += "1"
    text += "2"
    assert (await anext(changes)).unsynced == 2
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    assert not waiting.done()
    replica.confirm([entry.id for entry in outbox.pending(["notes"], 0, 10, 1000)])
    assert (await waiting).unsynced == 0
