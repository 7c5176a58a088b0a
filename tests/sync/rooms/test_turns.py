"""Nodes that append to one document take turns, however many edits each has."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.rooms import committer
from tests.sync.rooms.kit import Client, Node, node


async def written(at: Node, client: Client, text: str) -> bytes:
    """Send an edit, and return when its append was answered by the store and the answer is held back."""
    at.store.gate.clear()
    at.store.written.clear()
    update = client.edit(text)
    client.send(update)
    await at.store.written.wait()
    return update


async def test_who_lost_a_turn_has_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "GIVE_WAY_LEAST", 0.5)
    async with node(tmp_path) as here, node(tmp_path) as there:
        ada, bob = await here.client(author="ada"), await there.client(author="bob")
        update = ada.edit("hello ")
        ada.send(update)
        await bob.outlet.until(lambda outlet: update in outlet.updates)
        # Ada is first, and has more; Bob finds a conflict.
        here.store.contended = True
        first = await written(here, ada, "first ")
        second = await written(there, bob, "second ")
        third = ada.edit("third")
        ada.send(third)
        here.store.gate.set()
        there.store.gate.set()
        await ada.acknowledged(first, third)
        await bob.acknowledged(second)
        authors = [entry.author for entry in await here.log()]
        assert authors == ["ada", "ada", "bob", "ada"]
