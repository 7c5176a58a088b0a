"""Somebody new, who knows nothing but what the server tells: the witness of what it holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pycrdt import Doc, Text

from ebbtide_client import Client, Mode
from tests.e2e.demo.author import DOCUMENT, TEXT


async def fetch(url: str, path: Path) -> Doc[Any]:
    """The demo's document as the server at `url` gives it to a new device, whose outbox file `path` will be."""
    async with Client(url, path=path) as client:
        document = await client.open(DOCUMENT, Mode.OFFLINE)
        await document.push()
        copy: Doc[Any] = Doc()
        copy.apply_update(document.ydoc.get_update())
        return copy


def lacking(ydoc: Doc[Any], edits: Iterable[bytes]) -> int:
    """How many of these edits the document lacks, each given after those that it builds on. It has them all afterwards."""
    count = 0
    before = _contents(ydoc)
    for edit in edits:
        ydoc.apply_update(edit)
        after = _contents(ydoc)
        count += after != before
        before = after
    return count


def _contents(ydoc: Doc[Any]) -> tuple[bytes, str]:
    # Insertions show in the clocks, deletions in the text alone.
    return ydoc.get_state(), str(ydoc.get(TEXT, type=Text))
