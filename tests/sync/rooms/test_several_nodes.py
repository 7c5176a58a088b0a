"""Rooms of one document on several nodes that hear nothing of each other: the store alone makes them agree."""

from __future__ import annotations

from pathlib import Path

from crdt.document import Verdict
from crdt.errors import MissingCauses
from tests.sync.rooms.kit import QUICK, edits, node

DEAF = QUICK._replace(poll_interval=3600.0)


async def test_a_push_may_build_on_what_another_node_took(tmp_path: Path) -> None:
    a, b, c, d = edits("a", "b", "c", "d")
    async with node(tmp_path, DEAF) as here, node(tmp_path, DEAF) as there:
        room = here.rooms.open("d")
        await room.push([a], "", "", [None])
        outcomes, _ = await there.rooms.open("d").push([b], "", "", [None])
        assert outcomes == [Verdict.APPLIED]
        # The first node has the document in memory, without `b`.
        outcomes, seq = await room.push([b"\xff", c, a, d], "", "", [None] * 4)
        assert outcomes[1:] == [Verdict.APPLIED, Verdict.DUPLICATE, Verdict.APPLIED]
        assert seq == len(await here.log())
        assert await here.stored_text() == "abcd"


async def test_a_push_of_a_document_that_another_node_made_meanwhile(tmp_path: Path) -> None:
    a, b = edits("a", "b")
    async with node(tmp_path, DEAF) as here, node(tmp_path, DEAF) as there:
        room = here.rooms.open("d")
        await here.pull()
        await there.rooms.open("d").push([a], "", "", [None])
        outcomes, _ = await room.push([b], "", "", [None])
        assert outcomes == [Verdict.APPLIED]
        assert await here.stored_text() == "ab"


async def test_causes_that_are_nowhere_are_missing(tmp_path: Path) -> None:
    _, b = edits("a", "b")
    async with node(tmp_path, DEAF) as here:
        outcomes, _ = await here.rooms.open("d").push([b], "", "", [None])
        assert isinstance(outcomes[0], MissingCauses)
        assert await here.log() == []
