"""The SQLite store: the contract, and attacks on the file itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.store import StoreContract
from tests.server.stores.sqlite_backend import SqliteBackend


class TestSqliteContract(StoreContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SqliteBackend:
        return SqliteBackend(tmp_path)
