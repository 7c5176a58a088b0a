"""Pulls: what is on its way to clients is bounded over all of them, and shared by who is at the same place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sync.protocol.push import Delta, PushAnswer, PushRequest, Refusal
from sync.rooms import answers
from sync.rooms.answers import Answers
from sync.rooms.errors import AnswerFull, Overloaded
from sync.rooms.push import PULLED_AT_ONCE, answer
from tests.sync.rooms.kit import PATIENCE, QUICK, Anyone, Node, edits, node, text_of

SIZE = 10_000


async def fill(here: Node, *documents: str) -> None:
    for document in documents:
        await here.rooms.open(document).push(edits("x" * SIZE), "", "", [None])


def wanting(*documents: str) -> PushRequest:
    return PushRequest("phone", [], {}, dict.fromkeys(documents, b"\x00"), None)


def given(answered: PushAnswer) -> dict[str, str]:
    """For each document the code with which it was refused, or "" for a delta."""
    return {name: each.code if isinstance(each, Refusal) else "" for name, each in answered.deltas.items()}


async def test_who_pulls_from_the_same_place_shares_one_delta_until_the_document_changes(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        await fill(here, "d")
        room = here.rooms.open("d")
        with here.rooms.answers.begin() as one, here.rooms.answers.begin() as two, here.rooms.answers.begin() as three:
            first, second = await room.pull(b"\x00", one), await room.pull(b"\x01\x07\x01", two)
            assert first.update is second.update
            assert here.rooms.answers.held == len(first.update)
            await room.push([edits("y")[0]], "", "", [None])
            third = await room.pull(b"\x00", three)
            assert sorted(text_of([third.update])) == sorted("x" * SIZE + "y")
            assert here.rooms.answers.held == len(first.update) + len(third.update)
        assert here.rooms.answers.held == 0


async def test_a_node_that_has_as_much_on_its_way_as_it_may_answers_later(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(answer_bytes=SIZE)) as here:
        await fill(here, "a", "b", "c")
        with here.rooms.answers.begin() as unread:
            assert given(await answer(here.rooms, Anyone(), wanting("a", "b", "c"), unread)) == {
                "a": "",
                "b": "answer-full",
                "c": "answer-full",
            }
            with here.rooms.answers.begin() as shares, here.rooms.answers.begin() as refused:
                assert given(await answer(here.rooms, Anyone(), wanting("a"), shares)) == {"a": ""}
                with pytest.raises(Overloaded):
                    await answer(here.rooms, Anyone(), wanting("b"), refused)
        with here.rooms.answers.begin() as later:
            assert given(await answer(here.rooms, Anyone(), wanting("b"), later)) == {"b": ""}
        assert here.rooms.answers.held == 0


async def test_an_answer_has_the_first_delta_and_others_as_long_as_it_is_not_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ANSWER_BYTES", SIZE)
    names = [f"d{number}" for number in range(2 * PULLED_AT_ONCE)]
    async with node(tmp_path) as here:
        await fill(here, *names)
        with here.rooms.answers.begin() as held:
            codes = given(await answer(here.rooms, Anyone(), wanting(*names), held))
        assert list(codes) == names
        assert list(codes.values()) == ["", *["answer-full"] * (len(names) - 1)]
        with here.rooms.answers.begin() as held:
            small = await answer(here.rooms, Anyone(), wanting("nothing", *names), held)
        assert isinstance(small.deltas["nothing"], Delta)
        assert list(given(small).values()).count("") == 2, "the first is small, so there is room for one more"


def test_large_documents_get_half_of_the_room() -> None:
    node = Answers(4 * answers.LARGE)
    with node.begin() as first, node.begin() as second:
        for size in (answers.LARGE, answers.LARGE + 1):
            first.admit(size)
            first.hold(bytes(size))
        with pytest.raises(AnswerFull):
            first.admit(answers.LARGE)
        with pytest.raises(Overloaded):
            second.admit(answers.LARGE)
        second.admit(answers.LARGE - 1)
    assert node.held == 0


async def test_an_answer_that_nobody_waits_for_holds_nothing(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        await fill(here, "a")
        here.store.loads.clear()

        async def asks() -> None:
            with here.rooms.answers.begin() as held:
                await answer(here.rooms, Anyone(), wanting("a", "b"), held)

        asking = asyncio.create_task(asks())
        async with asyncio.timeout(PATIENCE):
            while not here.rooms.answers.held:
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        here.store.loads.set()
        await here.pull("b")
        assert here.rooms.answers.held == 0
