"""The offline queue: a receipt for each entry, and nothing that goes on after the answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sync.protocol.push import PushAnswer, PushEntry, PushRequest, Receipt
from sync.rooms.errors import StoreUnavailable
from sync.rooms.limits import RoomLimits
from sync.rooms.push import TAKEN_AT_ONCE, answer
from tests.sync.rooms.kit import PATIENCE, Anyone, Node, edits, node
from tests.sync.rooms.test_cuts import cut, emoji


async def answered(here: Node, request: PushRequest) -> PushAnswer:
    with here.rooms.answers.begin() as held:
        return await answer(here.rooms, Anyone(), request, held)


async def test_a_push_for_more_documents_than_there_may_be_rooms_gets_through(tmp_path: Path) -> None:
    limits = RoomLimits(poll_interval=0.02, rooms=TAKEN_AT_ONCE + 2)
    async with node(tmp_path, limits) as here:
        entries = [PushEntry(str(number), f"d{number}", None, edits("x")[0]) for number in range(4 * TAKEN_AT_ONCE)]
        request = PushRequest("phone", entries, {}, {}, None)
        receipts = (await answered(here, request)).receipts
        assert {receipt.status for receipt in receipts} == {"applied"}
        assert len(here.rooms) <= limits.rooms


def entries(*updates: tuple[str, bytes]) -> PushRequest:
    """A push of updates, each for a document, with their places as ids."""
    return PushRequest("phone", [PushEntry(str(i), doc, None, update) for i, (doc, update) in enumerate(updates)], {}, {}, None)


async def test_receipts_come_in_the_order_of_the_entries_and_a_bad_one_holds_up_nothing(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        (a, b), c = edits("a", "b"), edits("c")[0]
        request = entries(("d", a), ("e", c), ("d", b"no update"), ("d", b), ("e", c))
        receipts = (await answered(here, request)).receipts
        assert [receipt.id for receipt in receipts] == ["0", "1", "2", "3", "4"]
        assert [receipt.status for receipt in receipts] == ["applied", "applied", "rejected", "applied", "duplicate"]
        assert receipts[2].code == "malformed-update"
        assert await here.stored_text("d") == "ab"


async def test_entries_that_must_wait_get_a_receipt_that_says_so_and_the_others_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.rooms.push.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("sync.rooms.cuts.CUT_BYTES", 1)
    monkeypatch.setattr("sync.rooms.cuts.NOTICED", 0.0)
    monkeypatch.setattr("sync.rooms.cuts.PAUSE", 10**9)
    async with node(tmp_path) as here:
        client, update = emoji(10)
        await here.rooms.open("d").push([update], "", "", [None])
        plain = edits("x")[0]
        first, second = cut(client, 1), cut(client, 2)
        builds_on_second = b"\x01\x01" + second[2:4] + b"\x01\x84" + second[2:4] + b"\x00\x01y\x00"
        request = entries(("d", first), ("d", second), ("d", builds_on_second), ("d", plain), ("elsewhere", plain))
        receipts = (await answered(here, request)).receipts
        assert [_said(receipt) for receipt in receipts] == ["applied", "overloaded", "overloaded", "applied", "applied"]


async def test_entries_that_cut_are_all_taken_if_there_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.rooms.cuts.NOTICED", 0.0)
    monkeypatch.setattr("sync.rooms.cuts.PAUSE", 0.01)
    async with node(tmp_path) as here:
        client, update = emoji(100_000)
        await here.rooms.open("d").push([update], "", "", [None])
        request = entries(*[("d", cut(client, index)) for index in range(5)])
        receipts = (await answered(here, request)).receipts
        assert [receipt.status for receipt in receipts] == ["applied"] * 5


async def test_what_is_answered_with_an_error_is_not_worked_on_any_more(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        for document in ("slow", "quick"):
            await here.rooms.open(document).push([edits("x")[0]], "", "", [None])
        here.store.gate.clear()
        slow, broken = here.rooms.open("slow"), here.rooms.open("broken")
        before = asyncio.all_tasks()
        asked = asyncio.ensure_future(answered(here, entries(("slow", edits("y")[0]), ("broken", edits("z")[0]))))
        async with asyncio.timeout(PATIENCE):
            while slow.journal.idle or broken.journal.idle:
                await asyncio.sleep(0)
        broken.fail(StoreUnavailable("switched off"))
        with pytest.raises(StoreUnavailable):
            await asked
        assert slow.pins == 0
        assert asyncio.all_tasks() <= before


def _said(receipt: Receipt) -> str:
    return receipt.code or receipt.status
