"""The stores that each test of the contract has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.rooms.ports import Store
from tests.contracts.store.backend import StoreBackend


class Places(ABC):
    """A backend that is empty, and two stores on it."""

    @pytest.fixture
    @abstractmethod
    def backend(self, tmp_path: Path) -> StoreBackend:
        """An empty place of its own for each test."""

    @pytest.fixture
    async def store(self, backend: StoreBackend) -> AsyncIterator[Store]:
        """A store on the backend."""
        store = await backend.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, backend: StoreBackend, store: Store) -> AsyncIterator[Store]:
        """A second store on the same data."""
        other = await backend.open()
        yield other
        await other.close()
