"""Every kind of damage is found, named with its code, and holds up nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from server.archive.archive import Archive
from server.archive.ports import Logged, LogListing
from server.archive.report import Report
from server.archive.verify import verify_archive, verify_store
from server.stores.sqlite import open_sqlite
from server.stores.sqlite_listing import open_sqlite_listing
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Store
from tests.server.archive.kit import append, backed_up, fill, quiet, real_updates, said, sqlite, state_at, texts

Statement = str
OF_A = "(SELECT id FROM documents WHERE name = 'a')"


@asynccontextmanager
async def listing(path: Path) -> AsyncIterator[LogListing]:
    listed = await open_sqlite_listing(path)
    try:
        yield listed
    finally:
        await listed.close()


async def verified(path: Path) -> Report:
    report = quiet()
    async with sqlite(path) as store, listing(path) as listed:
        await verify_store(store, listed, report)
    return report


async def with_one_document(store: Store) -> None:
    """`a`: 60 entries or so of several authors, a snapshot half-way, among others."""
    await fill(store, 8)
    updates = real_updates(30)
    await append(store, "a", 0, updates)
    await store.snapshot("a", 30, state_at(updates, 30))


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await with_one_document(store)
    return tmp_path / "store.sqlite"


def damage(path: Path, statement: Statement, *values: object) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(statement, values).rowcount == 1


async def test_what_is_in_order_is_found_so(path: Path, tmp_path: Path) -> None:
    report = await verified(path)
    assert (report.documents, report.troubles, said(report)) == (9, 0, "")
    async with sqlite(path) as store:
        await backed_up(store, tmp_path / "backup")
    report = quiet()
    with Archive(tmp_path / "backup", write=False) as archive:
        await verify_archive(archive, report)
    assert (report.documents, report.troubles) == (9, 0)


DAMAGES: dict[str, tuple[Statement, Callable[[], tuple[object, ...]]]] = {
    "store-corrupted: a: entries 1 to ": (f"DELETE FROM entries WHERE document = {OF_A} AND seq = 20", tuple),
    "store-corrupted: a: entries 31 to ": (f"DELETE FROM entries WHERE document = {OF_A} AND seq = 40", tuple),
    "store-corrupted: a: a part of the snapshot cannot": (
        f"UPDATE parts SET data = x'00' WHERE upload = (SELECT upload FROM snapshots WHERE document = {OF_A})",
        tuple,
    ),
    "entry-unusable: a: entry 20 cannot be used (malformed-update)": (
        f"UPDATE entries SET data = x'0102' WHERE document = {OF_A} AND seq = 20",
        tuple,
    ),
    "entry-unusable: a: entry 21 cannot be used (missing-causes)": (
        f"UPDATE entries SET data = ? WHERE document = {OF_A} AND seq = 21",
        lambda: (texts(2, 10)[1],),
    ),
}


@pytest.mark.parametrize("found", DAMAGES)
async def test_damage_is_named(path: Path, found: str) -> None:
    statement, values = DAMAGES[found]
    damage(path, statement, *values())
    report = await verified(path)
    assert found in said(report)
    assert (report.documents, report.troubles) == (9, 1)


WRONG_KINDS = [
    f"UPDATE entries SET data = 'text' WHERE document = {OF_A} AND seq = 20",
    f"UPDATE entries SET data = 'text' WHERE document = {OF_A} AND seq = 40",
    f"UPDATE entries SET time = 'noon' WHERE document = {OF_A} AND seq = 40",
    f"UPDATE parts SET data = 'text' WHERE upload = (SELECT upload FROM snapshots WHERE document = {OF_A})",
    f"UPDATE snapshots SET seq = 'x' WHERE document = {OF_A}",
    "UPDATE documents SET lineage = x'00' WHERE name = 'a'",
]


@pytest.mark.parametrize("statement", WRONG_KINDS)
async def test_values_of_the_wrong_kind_are_damage_to_one_document(path: Path, statement: str) -> None:
    damage(path, statement)
    report = await verified(path)
    assert "store-corrupted: a: " in said(report)
    assert (report.documents, report.troubles) == (9, 1)


async def test_a_feed_without_a_name_is_damage_to_the_store(path: Path) -> None:
    damage(path, "DELETE FROM feed")
    with pytest.raises(StoreCorrupted, match="the changes feed has lost its name"):
        await open_sqlite(path)


async def test_a_head_that_is_no_number_is_damage_with_a_name(path: Path) -> None:
    damage(path, f"UPDATE heads SET head = 'x' WHERE document = {OF_A}")
    async with sqlite(path) as store:
        with pytest.raises(StoreCorrupted, match="wrong kind for a"):
            await store.changes(0, 10)


LOST: dict[str, tuple[Statement, int]] = {
    "store-corrupted: a: its head is 0, ": (f"UPDATE heads SET head = 0 WHERE document = {OF_A}", 9),
    "store-corrupted: a: its head is 29, ": (f"UPDATE heads SET head = 29 WHERE document = {OF_A}", 9),
    "heads-differ: a: there are entries up to 60 of it, and the changes feed ends at 40": (
        f"UPDATE heads SET head = 40, number = number - 20 WHERE document = {OF_A}",
        9,
    ),
    "heads-differ: a: there are entries up to 60 of it, and the changes feed does not": (
        f"DELETE FROM heads WHERE document = {OF_A}",
        8,
    ),
    "heads-differ: a: there are entries up to 60 of it, and the changes feed does not have it": (
        "DELETE FROM documents WHERE name = 'a'",
        8,
    ),
}


@pytest.mark.parametrize("found", LOST)
async def test_what_the_feed_does_not_lead_to(path: Path, found: str) -> None:
    statement, documents = LOST[found]
    damage(path, statement)
    report = await verified(path)
    assert found in said(report)
    assert (report.documents, report.troubles) == (documents, 1)


async def test_a_document_of_which_no_name_is_left(path: Path) -> None:
    damage(path, "DELETE FROM documents WHERE name = 'a'")
    damage(path, "DELETE FROM names WHERE name = 'a'")
    report = await verified(path)
    assert "heads-differ: a document without a name: there are entries up to 60" in said(report)
    assert (report.documents, report.troubles) == (8, 1)


async def test_a_document_of_which_nothing_but_its_name_is_left(path: Path) -> None:
    for table in ("entries", "snapshots", "heads"):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"DELETE FROM {table} WHERE document = {OF_A}")
    damage(path, "DELETE FROM documents WHERE name = 'a'")
    report = await verified(path)
    assert "heads-differ: a: " in said(report)
    assert (report.documents, report.troubles) == (8, 1)


@pytest.mark.parametrize("seq", [0, 29, 61])
async def test_a_head_that_its_entries_contradict_is_no_shorter_document(path: Path, seq: int) -> None:
    damage(path, f"UPDATE heads SET head = ? WHERE document = {OF_A}", seq)
    async with sqlite(path) as store:
        with pytest.raises(StoreCorrupted):
            await store.load("a")
        with pytest.raises(StoreCorrupted):
            await store.read("a", 0, 10)


async def test_what_comes_while_a_store_is_verified_is_in_order(path: Path) -> None:
    class Busy:
        """A listing before which somebody edits."""

        def __init__(self, store: Store, listed: LogListing) -> None:
            self._store, self._listed = store, listed

        async def documents_in_log(self) -> AsyncIterator[Logged]:
            await append(self._store, "new", 0, texts(2, 10))
            async for logged in self._listed.documents_in_log():
                yield logged

        async def close(self) -> None:
            await self._listed.close()

    async with sqlite(path) as store, listing(path) as listed:
        report = quiet()
        await verify_store(store, Busy(store, listed), report)
    assert (report.troubles, said(report)) == (0, "")


@pytest.mark.parametrize(("seq", "code"), [(29, "snapshot-differs"), (31, "snapshot-differs"), (0, "snapshot-unreadable")])
async def test_a_snapshot_that_is_not_what_the_log_gives(tmp_path: Path, seq: int, code: str) -> None:
    updates = texts(60, 10)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await append(store, "a", 0, updates)
        await store.snapshot("a", 30, state_at(updates, seq) if seq else b"no document")
        await fill(store, 2)
        await backed_up(store, tmp_path / "backup")
    report = await verified(tmp_path / "store.sqlite")
    assert f"{code}: a: the snapshot at 30 " in said(report)
    assert (report.documents, report.troubles) == (3, 1)
    in_backup = quiet()
    with Archive(tmp_path / "backup", write=False) as archive:
        await verify_archive(archive, in_backup)
    assert f"{code}: a: the snapshot at 30 " in said(in_backup)


async def test_what_follows_the_snapshot_of_a_compacted_log(tmp_path: Path) -> None:
    updates = texts(60, 10)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await append(store, "a", 0, updates)
        await store.snapshot("a", 30, state_at(updates, 30))
        await store.compact("a", 20)
    for seq in (25, 40):
        damage(tmp_path / "store.sqlite", "UPDATE entries SET data = x'0102' WHERE seq = ?", seq)
        assert f"entry-unusable: a: entry {seq} " in said(await verified(tmp_path / "store.sqlite"))
        damage(tmp_path / "store.sqlite", "UPDATE entries SET data = ? WHERE seq = ?", updates[seq - 1], seq)
    assert (await verified(tmp_path / "store.sqlite")).troubles == 0


async def test_a_feed_that_is_behind_or_ahead_of_the_log(path: Path) -> None:
    class Feed:
        """A store whose feed and heads are off by some."""

        def __init__(self, store: Store, fed: int, head: int) -> None:
            self._store, self._fed, self._head = store, fed, head
            self.load, self.read = store.load, store.read

        async def changes(self, since: int, limit: int) -> object:
            page = await self._store.changes(since, limit)
            return page._replace(changes=[each._replace(head=each.head + self._fed) for each in page.changes])

        async def heads(self, documents: list[str]) -> dict[str, int]:
            return {name: head + self._head for name, head in (await self._store.heads(documents)).items()}

    async with sqlite(path) as store, listing(path) as listed:
        for fed, head, troubles in ((0, 0, 0), (-1, 0, 9), (1, 0, 9), (0, -1, 9)):
            report = quiet()
            await verify_store(Feed(store, fed, head), listed, report)  # type: ignore[arg-type]
            assert report.troubles == troubles
            assert said(report).count("heads-differ: ") == troubles


async def test_a_backup_that_was_changed(path: Path, tmp_path: Path) -> None:
    async with sqlite(path) as store:
        await backed_up(store, tmp_path / "backup")
    segment = tmp_path / "backup" / "000001.ebb"
    data = segment.read_bytes()
    for at in range(20, len(data), 1499):
        segment.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        report = quiet()
        with Archive(tmp_path / "backup", write=False) as archive:
            await verify_archive(archive, report)
        assert "backup-damaged: the backup: " in said(report)
