"""What is damaged behind the store's back is an error and not another document."""

from __future__ import annotations

import random

import pytest

from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Store
from tests.contracts.store.backend import StoreBackend
from tests.contracts.store.logs import fill
from tests.contracts.store.places import Places


class Damage(Places):
    """Promises of `StoreCorrupted`."""

    @pytest.mark.parametrize("seq", [1, 2, 127, 128, 129, 299, 300])
    async def test_a_hole_is_an_error_and_not_a_shorter_document(self, backend: StoreBackend, store: Store, seq: int) -> None:
        await fill(store, "a", 300)
        await fill(store, "b", 300)
        await backend.lose_entry("a", seq)
        with pytest.raises(StoreCorrupted) as raised:
            await store.load("a")
        assert raised.value.document == "a"
        with pytest.raises(StoreCorrupted):
            await store.read("a", seq - 1, 1)
        assert len((await store.load("b")).entries) == 300

    async def test_a_hole_before_the_snapshot_does_not_hinder_a_load(self, backend: StoreBackend, store: Store) -> None:
        await fill(store, "a", 20)
        await store.snapshot("a", 10, b"state")
        await backend.lose_entry("a", 5)
        assert len((await store.load("a")).entries) == 10
        with pytest.raises(StoreCorrupted):
            await store.read("a", 0, 20)

    @pytest.mark.parametrize("part", [0, 1, 2])
    @pytest.mark.parametrize("damage", ["lose_part", "shorten_part"])
    async def test_a_damaged_snapshot_is_an_error(self, backend: StoreBackend, store: Store, part: int, damage: str) -> None:
        await fill(store, "a", 3)
        await store.snapshot("a", 3, random.Random(5).randbytes(5 << 19))
        await getattr(backend, damage)("a", part)
        with pytest.raises(StoreCorrupted) as raised:
            await store.load("a")
        assert raised.value.document == "a"
