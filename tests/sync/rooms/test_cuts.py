"""Edits that cut characters in two: honest ones are taken, and many do not keep everybody else waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycrdt

from crdt.document import Document, Verdict
from crdt.errors import TooManyCuts
from sync.protocol.lib0 import write_var_uint
from sync.rooms.cuts import CUT_BYTES
from sync.rooms.errors import Overloaded
from tests.sync.rooms.kit import PATIENCE, node


def emoji(count: int) -> tuple[int, bytes]:
    """A text of so many emoji: its client id and the update that makes it."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    text = doc.get("text", type=pycrdt.Text)
    text += "\N{GRINNING FACE}" * count
    return doc.client_id, doc.get_update()


def cut(client: int, index: int) -> bytes:
    """An update by which another client inserts between the halves of the emoji at `index`."""
    of = write_var_uint(client)
    left, right = write_var_uint(2 * index), write_var_uint(2 * index + 1)
    return b"\x01\x01" + write_var_uint(1000 + index) + b"\x00\xc4" + of + left + of + right + b"\x01z\x00"


def test_a_call_takes_cuts_up_to_a_bound_and_at_least_one() -> None:
    client, update = emoji(10_000)
    document = Document()
    document.apply(update)
    edits = [cut(client, index) for index in range(5)]
    outcomes = document.apply_all(edits, cut_bytes=2.5 * document.size)
    assert [type(outcome) for outcome in outcomes] == [Verdict, Verdict, TooManyCuts, TooManyCuts, TooManyCuts]
    assert [type(outcome) for outcome in document.apply_all(edits[2:], cut_bytes=1)] == [Verdict, TooManyCuts, TooManyCuts]
    assert [type(outcome) for outcome in document.apply_all(edits[3:], cut_bytes=0)] == [TooManyCuts] * 2
    assert document.apply_all(edits) == [Verdict.DUPLICATE] * 3 + [Verdict.APPLIED] * 2


async def test_who_cuts_much_waits_and_others_do_not(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client, update = emoji(2 * CUT_BYTES // 4)
        vandal = await here.client("large")
        vandal.send(update)
        await vandal.acknowledged(update)
        edits = [cut(client, index) for index in range(60)]
        vandal.send(*edits)
        await vandal.outlet.until(lambda outlet: outlet.errors)
        assert {type(error) for error in vandal.outlet.errors} == {TooManyCuts}
        await vandal.acknowledged(edits[0])
        assert sum(edit in vandal.outlet.updates for edit in edits) == 1
        elsewhere = await here.client("small")
        mine, theirs = emoji(2)
        elsewhere.send(theirs, elsewhere.edit("others go on"))
        await elsewhere.outlet.until(lambda outlet: len(outlet.updates) == 2)
        outcomes, _ = await here.rooms.open("small").push([cut(mine, 0)], "", "", [None])
        assert [type(outcome) for outcome in outcomes] == [Overloaded]
        outcomes, _ = await here.rooms.open("small").push([cut(mine, 0)], "", "", [None], patience=10 * PATIENCE)
        assert outcomes == [Verdict.APPLIED]
