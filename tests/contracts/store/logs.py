"""Logs whose updates tell their numbers, and reading all of a log or a feed."""

from __future__ import annotations

from collections.abc import Iterable

from sync.rooms.ports import Append, Appended, Draft, Entry, Store


def updates(entries: Iterable[Entry]) -> list[bytes]:
    """The updates alone."""
    return [entry.update for entry in entries]


def numbered(first: int, last: int) -> list[Draft]:
    """Drafts whose updates are their numbers."""
    return [Draft(b"%d" % seq) for seq in range(first, last + 1)]


def aged(first: int, last: int) -> list[Entry]:
    """Entries as they were written long ago, a few in each millisecond."""
    return [
        Entry(seq, b"%d" % seq, f"a{seq % 3}", f"d{seq % 2}", 1_000_000_000_000 + seq // 4) for seq in range(first, last + 1)
    ]


async def fill(store: Store, document: str, entries: int) -> None:
    """Give a new document `entries` entries whose updates are their numbers."""
    assert await store.append([Append(document, 0, numbered(1, entries), "L")]) == [Appended(entries)]


async def whole_log(store: Store, document: str) -> list[Entry]:
    """All entries, read page by page."""
    entries: list[Entry] = []
    while page := await store.read(document, len(entries), 97):
        entries += page
    return entries


async def drain(store: Store, cursor: int, seen: dict[str, int]) -> int:
    """Read the changes feed to its end into `seen`; the cursor there."""
    while True:
        page = await store.changes(cursor, 3)
        for document, head in page.changes:
            seen[document] = max(head, seen.get(document, 0))
        assert page.cursor > cursor or not page.changes
        cursor = page.cursor
        if not page.more:
            return cursor
