"""Which documents of a store are to be visited."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from sync.rooms.ports import Store

CHANGES_PAGE = 1000


class Worklist:
    """The documents that a store has changed since some number of its feed, as of one moment, with their heads then.

    Taken before the first of them is visited: who follows the feed of a busy store while working never comes to its end, and
    may never meet a document that moves on all the time. On disk, since there may be many.
    """

    def __init__(self) -> None:
        """Made by `list_changes`."""
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE work (name TEXT PRIMARY KEY, head INTEGER)")
        self.cursor = 0
        """Where the feed ended."""

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM work").fetchone()
        return int(count)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        yield from self._database.execute("SELECT name, head FROM work ORDER BY rowid")

    def head(self, document: str) -> int | None:
        """The document's head; None when it is not in the list."""
        found = self._database.execute("SELECT head FROM work WHERE name = ?", (document,)).fetchone()
        return found[0] if found else None

    def add(self, document: str, head: int) -> None:
        """One more, or a newer head."""
        self._database.execute("REPLACE INTO work VALUES (?, ?)", (document, head))

    def close(self) -> None:
        """Release the file."""
        self._database.close()


async def list_changes(store: Store, since: int) -> Worklist:
    """The documents with entries committed after `since`. The caller closes it. Raises `StoreUnavailable`."""
    work, more = Worklist(), True
    work.cursor = since
    while more:
        page = await store.changes(work.cursor, CHANGES_PAGE)
        for document, head in page.changes:
            work.add(document, head)
        work.cursor, more = page.cursor, page.more
    return work
