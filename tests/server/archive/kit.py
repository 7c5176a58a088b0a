"""Stores with real documents in them, and what they hold in a form that can be compared."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import pycrdt

from crdt.document import Document
from crdt.errors import CrdtError
from server.archive.archive import Archive
from server.archive.backup import back_up
from server.archive.report import Report
from server.archive.restore import restore
from server.stores.sqlite import open_sqlite
from sync.rooms.ports import Adoption, Append, Appended, Draft, Entry, Store
from tests.crdt.recordings import record

Log = tuple[str, int, int, bytes | None, tuple[Entry, ...]]
"""Lineage, head, number and state of the snapshot, and all entries that there are."""


@asynccontextmanager
async def sqlite(path: Path) -> AsyncIterator[Store]:
    """A store in the file `path`."""
    store = await open_sqlite(path)
    try:
        yield store
    finally:
        await store.close()


@cache
def real_updates(seed: int, edits: int = 60) -> tuple[bytes, ...]:
    """Updates of several authors, in an order in which each can be applied."""
    document = Document()
    return tuple(update for update in record(seed, edits=edits) if not isinstance(document.apply_all([update])[0], CrdtError))


def state_at(updates: Sequence[bytes], seq: int) -> bytes:
    """The document that the first `seq` updates give, as a room keeps it: from a snapshot half-way, and what followed."""
    half = Document.load(list(updates[: seq // 2])).encode()
    document = Document.load([half])
    document.apply_all(list(updates[seq // 2 : seq]))
    return document.encode()


async def append(store: Store, document: str, head: int, updates: Sequence[bytes], lineage: str = "") -> None:
    """Append as a node does, all in one commit."""
    drafts = [Draft(update, f"author {index % 3}", f"device {index % 2}") for index, update in enumerate(updates)]
    assert await store.append([Append(document, head, drafts, lineage or document)]) == [Appended(head + len(updates))]


async def adopt_aged(store: Store, document: str, updates: Sequence[bytes], times: Sequence[int]) -> None:
    """Give a new document entries that were made at these times."""
    entries = [Entry(seq, update, "a", "", time) for seq, (update, time) in enumerate(zip(updates, times, strict=True), 1)]
    assert await store.adopt([Adoption(document, 0, entries, document)]) == [Appended(len(entries))]


async def fill(store: Store, documents: int, first: int = 0) -> None:
    """Documents of every sort: whole logs, with a snapshot, compacted in part, compacted altogether."""
    for number in range(first, first + documents):
        name, updates = f"d{number}", real_updates(number % 20)
        await append(store, name, 0, updates)
        if number % 4:
            seq = len(updates) if number % 4 == 3 else len(updates) // 2
            await store.snapshot(name, seq, state_at(updates, seq))
        if number % 4 > 1:
            await store.compact(name, len(updates) if number % 4 == 3 else len(updates) // 3)


def texts(count: int, size: int, seed: int = 0) -> list[bytes]:
    """Updates that each put a text of `size` random characters into a map."""
    chance, doc = random.Random(seed), pycrdt.Doc[pycrdt.Map[str]]()
    entries = doc.get("entries", type=pycrdt.Map)
    updates = []
    for number in range(count):
        before = doc.get_state()
        entries[f"{seed}-{number}"] = chance.randbytes(size // 2).hex()
        updates.append(doc.get_update(before))
    return updates


async def names(store: Store) -> list[str]:
    """All documents of a store."""
    found, cursor, more = set[str](), 0, True
    while more:
        page = await store.changes(cursor, 100)
        found |= {change.document for change in page.changes}
        cursor, more = page.cursor, page.more
    return sorted(found)


async def log_of(store: Store, document: str) -> Log:
    """All that a store has of a document."""
    stored = await store.load(document)
    entries: list[Entry] = []
    while page := await store.read(document, entries[-1].seq if entries else 0, 100):
        entries += page
    return stored.lineage or "", stored.head, stored.snapshot_seq, stored.snapshot, tuple(entries)


async def contents(store: Store) -> dict[str, Log]:
    """All that a store has."""
    return {name: await log_of(store, name) for name in await names(store)}


def quiet() -> Report:
    """A report that nobody reads."""
    return Report("test", io.StringIO())


def said(report: Report) -> str:
    """What a quiet report was told to say."""
    stream = report._stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


async def backed_up(store: Store, folder: Path) -> Report:
    """Bring the backup in `folder` up to date."""
    report = quiet()
    with Archive(folder, write=True) as archive:
        await back_up(store, archive, report)
    return report


async def restored(
    folder: Path, path: Path, *, at: int | None = None, only: Sequence[str] = (), beside: bool = False
) -> Report:
    """Restore the backup in `folder` into the store in the file `path`."""
    report = quiet()
    with Archive(folder, write=False) as archive:
        async with sqlite(path) as store:
            await restore(archive, store, report, at=at, documents=only, beside=beside)
    return report


async def contents_of(path: Path) -> dict[str, Log]:
    """All that the store in the file `path` has."""
    async with sqlite(path) as store:
        return await contents(store)
