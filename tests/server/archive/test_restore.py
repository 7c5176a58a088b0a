"""Restoring: as of a moment, some documents alone, into what may not be empty, and after a kill."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.archive.archive import Archive
from server.archive.copy import copy
from server.archive.errors import TargetNotEmpty, UnknownDocument
from server.archive.restore import restore
from sync.rooms.errors import StoreUnavailable
from sync.rooms.ports import Adoption, Append, Appended, Conflict, Draft, Store
from tests.server.archive.kit import (
    adopt_aged,
    append,
    backed_up,
    contents,
    contents_of,
    fill,
    log_of,
    names,
    quiet,
    real_updates,
    restored,
    said,
    sqlite,
    state_at,
    texts,
)

DAY = 86_400_000
T0 = 1_000_000_000_000


async def heads(path: Path) -> dict[str, int]:
    async with sqlite(path) as store:
        return await store.heads(await names(store))


async def test_as_of_a_moment(tmp_path: Path) -> None:
    updates = texts(10, 10)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await adopt_aged(store, "a", updates, [T0 + DAY * day for day in range(10)])
        # Two nodes whose clocks differ: what was made behind a later entry is not had without it.
        await adopt_aged(store, "b", updates[:4], [T0, T0 + 5 * DAY, T0 + DAY, T0 + 6 * DAY])
        await adopt_aged(store, "c", updates[:2], [T0 + 7 * DAY] * 2)
        await backed_up(store, tmp_path / "backup")
        expected = {
            -1: {},
            0: {"a": 1, "b": 1},
            4 * DAY - 1: {"a": 4, "b": 1},
            4 * DAY: {"a": 5, "b": 1},
            5 * DAY: {"a": 6, "b": 3},
            100 * DAY: {"a": 10, "b": 4, "c": 2},
        }
        for number, (age, found) in enumerate(expected.items()):
            path = tmp_path / f"{number}.sqlite"
            assert (await restored(tmp_path / "backup", path, at=T0 + age)).troubles == 0
            assert await heads(path) == found
            for name, log in (await contents_of(path)).items():
                assert log[4] == (await log_of(store, name))[4][: found[name]]


async def test_a_snapshot_of_later_is_left_out(tmp_path: Path) -> None:
    updates = texts(40, 200)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await adopt_aged(store, "a", updates, [T0 + DAY * day for day in range(40)])
        await store.snapshot("a", 10, state_at(updates, 10))
        await backed_up(store, tmp_path / "backup")
        await store.snapshot("a", 30, state_at(updates, 30))
    for age, seq in ((5, 0), (9, 10), (35, 10)):
        path = tmp_path / f"{age}.sqlite"
        await restored(tmp_path / "backup", path, at=T0 + DAY * age)
        assert (await contents_of(path))["a"][1:3] == (age + 1, seq)


async def test_a_moment_that_the_log_was_compacted_beyond(tmp_path: Path) -> None:
    updates = texts(20, 10)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await adopt_aged(store, "old", updates[:3], [T0] * 3)
        await adopt_aged(store, "a", updates, [T0 + DAY * day for day in range(20)])
        await store.snapshot("a", 12, state_at(updates, 12))
        await store.compact("a", 8)
        await adopt_aged(store, "all", updates[:5], [T0] * 5)
        await store.snapshot("all", 5, state_at(updates, 5))
        await store.compact("all", 5)
        await backed_up(store, tmp_path / "backup")
    # Entries 9 to 12 are there, but not what they build on.
    for age, found in ((10, {"old": 3}), (11, {"old": 3, "a": 12}), (19, {"old": 3, "a": 20})):
        path = tmp_path / f"{age}.sqlite"
        report = await restored(tmp_path / "backup", path, at=T0 + DAY * age)
        assert await heads(path) == found
        # When the entries of the third one were made, nothing tells.
        assert "compacted-beyond: all: its log was compacted beyond that moment" in said(report)
        assert report.troubles == 3 - len(found)
    assert (await restored(tmp_path / "backup", tmp_path / "now.sqlite", at=10**13)).troubles == 0
    assert await heads(tmp_path / "now.sqlite") == {"old": 3, "a": 20, "all": 5}


async def test_a_moment_before_a_compaction_that_the_backup_was_before(tmp_path: Path) -> None:
    updates = texts(20, 10)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await adopt_aged(store, "a", updates[:10], [T0 + DAY * day for day in range(10)])
        await backed_up(store, tmp_path / "backup")
        await append(store, "a", 10, updates[10:], "a")
        await store.snapshot("a", 15, state_at(updates, 15))
        await store.compact("a", 15)
        await backed_up(store, tmp_path / "backup")
    await restored(tmp_path / "backup", tmp_path / "then.sqlite", at=T0 + 5 * DAY)
    assert await heads(tmp_path / "then.sqlite") == {"a": 6}
    # From entry 10 to the snapshot nothing is there.
    report = await restored(tmp_path / "backup", tmp_path / "between.sqlite", at=T0 + 50 * DAY)
    assert "compacted-beyond: a: " in said(report)
    await restored(tmp_path / "backup", tmp_path / "now.sqlite")
    assert await heads(tmp_path / "now.sqlite") == {"a": 20}


async def test_some_documents_alone(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 6)
        await backed_up(store, tmp_path / "backup")
    path = tmp_path / "restored.sqlite"
    async with sqlite(path) as store:
        await append(store, "other", 0, texts(1, 10))
    with pytest.raises(TargetNotEmpty, match="it has other; restore into another store, or with --beside into this one"):
        await restored(tmp_path / "backup", path, only=["d3"])
    assert set(await heads(path)) == {"other"}
    report = await restored(tmp_path / "backup", path, only=["d3", "d1", "d3"], beside=True)
    assert (report.documents, report.troubles) == (2, 0)
    assert set(await heads(path)) == {"other", "d1", "d3"}
    with pytest.raises(UnknownDocument, match="has no document d9"):
        await restored(tmp_path / "backup", path, only=["d0", "d9"], beside=True)
    assert set(await heads(path)) == {"other", "d1", "d3"}
    alone = tmp_path / "alone.sqlite"
    for _ in range(2):
        await restored(tmp_path / "backup", alone, only=["d3"])
        assert set(await heads(alone)) == {"d3"}
    with pytest.raises(TargetNotEmpty, match="it has d3; "):
        await restored(tmp_path / "backup", alone, only=["d1"])


async def test_a_store_that_is_not_empty_is_refused_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "target.sqlite"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 6)
        await backed_up(store, tmp_path / "backup")
    async with sqlite(path) as store:
        await append(store, "other", 0, texts(2, 10))
        await append(store, "d1", 0, texts(3, 10), "of its own")
        await append(store, "d2", 0, texts(1, 10), "d2")
        before = await contents(store)
    with pytest.raises(TargetNotEmpty, match="it has "):
        await restored(tmp_path / "backup", path)
    assert await contents_of(path) == before
    report = await restored(tmp_path / "backup", path, beside=True)
    after = await contents_of(path)
    assert after.keys() == {"other", *(f"d{n}" for n in range(6))}
    assert {name: after[name] for name in before} == before
    assert (report.documents, report.left, report.troubles) == (4, 2, 2)
    assert "history-differs: d1: the store has another document of that name; it was left as it is" in said(report)
    assert "history-differs: d2: the store has " in said(report)


async def test_another_document_of_the_same_name_is_a_stranger(tmp_path: Path) -> None:
    path = tmp_path / "target.sqlite"
    async with sqlite(tmp_path / "store.sqlite") as store:
        for name in ("a", "b", "c"):
            await append(store, name, 0, texts(5, 10))
        await backed_up(store, tmp_path / "backup")
        async with sqlite(path) as target:
            await append(target, "a", 0, texts(2, 10), "of its own")
            before = await contents(target)
            with pytest.raises(TargetNotEmpty, match="it has a, and it is another document of that name; copy into"):
                await copy(store, target, quiet())
    with pytest.raises(TargetNotEmpty, match="it has a, and it is another document of that name; restore into"):
        await restored(tmp_path / "backup", path)
    assert await contents_of(path) == before


async def test_nothing_is_taken_back_from_a_store(tmp_path: Path) -> None:
    """Somebody means to put the live store back to a moment."""
    path = tmp_path / "live.sqlite"
    async with sqlite(path) as store:
        for name in ("a", "b"):
            await adopt_aged(store, name, texts(3, 10), [T0, T0 + DAY, T0 + 2 * DAY])
        await backed_up(store, tmp_path / "backup")
    before = await contents_of(path)
    with pytest.raises(TargetNotEmpty, match="it has a up to entry 3, and 2 are to be there; restore into another store"):
        await restored(tmp_path / "backup", path, at=T0 + DAY)
    with pytest.raises(TargetNotEmpty, match="it has a; restore into another store"):
        await restored(tmp_path / "backup", path, at=T0 - 1)
    report = await restored(tmp_path / "backup", path, at=T0 + DAY, beside=True)
    assert (report.documents, report.left, report.troubles) == (0, 2, 2)
    assert await contents_of(path) == before


async def test_what_cannot_be_read_of_a_source_keeps_no_copy_from_going_on(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with sqlite(path) as store, sqlite(tmp_path / "target.sqlite") as target:
        await fill(store, 4)
        await copy(store, target, quiet())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM entries WHERE document = (SELECT id FROM documents WHERE name = 'd0') AND seq = 3")
    async with sqlite(path) as store, sqlite(tmp_path / "target.sqlite") as target:
        await append(store, "new", 0, texts(2, 10))
        report = quiet()
        await copy(store, target, report)
        assert (report.documents, report.left, report.troubles) == (4, 1, 1)
        assert "store-corrupted: d0: " in said(report)
        assert "new" in await names(target)


async def test_into_the_store_that_was_backed_up_nothing_is_to_do(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with sqlite(path) as store:
        await fill(store, 6)
        await backed_up(store, tmp_path / "backup")
    before = await contents_of(path)
    report = await restored(tmp_path / "backup", path)
    assert (report.entries, report.troubles) == (0, 0)
    assert await contents_of(path) == before


class Dying:
    """A store that answers some calls that write, and no more."""

    def __init__(self, store: Store, calls: int) -> None:
        self._store = store
        self._left = calls
        self.changes, self.read = store.changes, store.read

    async def adopt(self, batch: list[Adoption]) -> object:
        self._count()
        return await self._store.adopt(batch)

    async def snapshot(self, document: str, seq: int, state: bytes) -> None:
        self._count()
        await self._store.snapshot(document, seq, state)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise StoreUnavailable("it died")


async def test_a_restore_that_died_is_finished_by_the_next(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 8)
        await append(store, "large", 0, texts(60, 100_000))
        await backed_up(store, tmp_path / "backup")
        await restored(tmp_path / "backup", tmp_path / "whole.sqlite")
    expected, deaths = await contents_of(tmp_path / "whole.sqlite"), 0
    with Archive(tmp_path / "backup", write=False) as archive:
        for calls in range(40):
            path = tmp_path / f"{calls}.sqlite"
            async with sqlite(path) as target:
                try:
                    dying = Dying(target, calls)
                    await restore(archive, dying, quiet(), at=None, documents=[], beside=False)  # type: ignore[arg-type]
                except StoreUnavailable:
                    deaths += 1
                await restore(archive, target, quiet(), at=None, documents=[], beside=False)
                assert await contents(target) == expected
    assert deaths > 15


async def test_restored_documents_go_on(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 4)
        await backed_up(store, tmp_path / "backup")
    await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
    async with sqlite(tmp_path / "restored.sqlite") as store:
        for number in range(4):
            name, head = f"d{number}", len(real_updates(number))
            wrong = Append(name, head - 1, [Draft(b"no")], name)
            assert await store.append([wrong]) == [Conflict(head, name)]
            assert await store.append([Append(name, head, [Draft(b"on")], name)]) == [Appended(head + 1)]


async def test_damage_in_the_backup_costs_the_documents_it_is_in(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 8)
        await backed_up(store, tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup" / "index.sqlite")) as index:
        (offset,) = index.execute(
            "SELECT offset FROM pieces WHERE document = (SELECT id FROM documents WHERE name = 'd4') ORDER BY first"
        ).fetchone()
    segment = tmp_path / "backup" / "000001.ebb"
    data = bytearray(segment.read_bytes())
    data[offset + 60] ^= 1
    segment.write_bytes(data)
    report = await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
    assert "backup-damaged: d4: " in said(report)
    assert report.troubles == 1
    assert set(await heads(tmp_path / "restored.sqlite")) == {f"d{n}" for n in range(8)} - {"d4"}
