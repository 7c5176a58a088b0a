"""A SQLite store's place for the contract tests."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from server.stores.sqlite import SqliteStore, open_sqlite
from sync.rooms.ports import Store
from tests.contracts.store.backend import StoreBackend


async def open_at(address: str) -> SqliteStore:
    """Open the store in the file `address`."""
    return await open_sqlite(Path(address))


class SqliteBackend(StoreBackend):
    """A file in a directory of its own."""

    opener = f"{__name__}:{open_at.__name__}"

    def __init__(self, directory: Path) -> None:
        self.path = directory / "store.sqlite"
        self.address = str(self.path)

    async def open(self) -> Store:
        return await open_at(self.address)

    def execute(self, statement: str, *values: object) -> int:
        """Run a statement on a connection of its own; the number of rows changed."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).rowcount

    async def lose_entry(self, document: str, seq: int) -> None:
        of = "(SELECT id FROM documents WHERE name = ?)"
        assert self.execute(f"DELETE FROM entries WHERE document = {of} AND seq = ?", document, seq) == 1

    async def lose_part(self, document: str, part: int) -> None:
        assert self.execute(f"DELETE FROM parts WHERE upload = {_UPLOAD} AND part = ?", document, part) == 1

    async def shorten_part(self, document: str, part: int) -> None:
        shorter = "substr(data, 1, length(data) / 2)"
        changed = self.execute(f"UPDATE parts SET data = {shorter} WHERE upload = {_UPLOAD} AND part = ?", document, part)
        assert changed == 1


_UPLOAD = "(SELECT s.upload FROM snapshots s JOIN documents d ON d.id = s.document WHERE d.name = ?)"
