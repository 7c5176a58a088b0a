"""A backup follows the logs of a store, and a restore gives what it followed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from server.archive import backup, segments
from server.archive.archive import Archive
from server.archive.errors import ArchiveDamaged, ArchiveUnusable
from server.archive.index import Index
from server.archive.segments import TITLE
from sync.rooms.ports import Store, Stored
from tests.server.archive.kit import (
    append,
    backed_up,
    contents,
    contents_of,
    fill,
    quiet,
    real_updates,
    restored,
    said,
    sqlite,
    state_at,
    texts,
)


async def test_what_was_backed_up_is_restored(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 40)
        report = await backed_up(store, tmp_path / "backup")
        assert (report.documents, report.troubles) == (40, 0)
        await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
        before = await contents(store)
    after = await contents_of(tmp_path / "restored.sqlite")
    assert len(after) == 40
    assert {name: (log[:2], log[4]) for name, log in after.items()} == {name: (log[:2], log[4]) for name, log in before.items()}
    # Of a log that is whole, a snapshot may be left to the next room.
    assert all(after[name][2:4] == log[2:4] for name, log in before.items() if log[4] == () or log[4][0].seq > 1)


async def test_later_runs_add_what_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 8)
        await backed_up(store, folder)
        size = (folder / "000001.ebb").stat().st_size
        again = await backed_up(store, folder)
        assert (again.documents, again.entries) == (0, 0)
        assert (folder / "000001.ebb").stat().st_size < size + 200
        await append(store, "d0", len(real_updates(0)), texts(3, 10), "d0")
        await fill(store, 1, first=8)
        more = await backed_up(store, folder)
        assert (more.documents, more.entries) == (2, 3 + len(real_updates(8)))
        await restored(folder, tmp_path / "restored.sqlite")
        assert {name: log[4] for name, log in (await contents_of(tmp_path / "restored.sqlite")).items()} == {
            name: log[4] for name, log in (await contents(store)).items()
        }


async def test_a_large_document_takes_several_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "COMMIT_BYTES", 50_000)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await append(store, "large", 0, texts(100, 20_000))
        await backed_up(store, tmp_path / "backup")
        await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
        assert await contents_of(tmp_path / "restored.sqlite") == await contents(store)


async def test_whatever_a_killed_run_left_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "COMMIT_BYTES", 2_000)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 12)
        await backed_up(store, whole)
        data = (whole / "000001.ebb").read_bytes()
        commits = set()
        for length in [*range(len(TITLE) + 2), *range(len(TITLE) + 2, len(data), 701), len(data) - 1]:
            shutil.rmtree(torn, ignore_errors=True)
            torn.mkdir()
            (torn / "000001.ebb").write_bytes(data[:length])
            with Archive(torn, write=True) as archive:
                commits.add(archive.progress.end)
                await backup.back_up(store, archive, quiet())
                count = archive.count()
            with Archive(torn, write=False) as archive:
                archive.check()
                assert archive.count() == count
        assert len(commits) > 5, "nothing was gone on from"
        with Archive(whole, write=False) as archive:
            assert archive.count() == count
        await restored(torn, tmp_path / "restored.sqlite")
        assert {name: log[4] for name, log in (await contents_of(tmp_path / "restored.sqlite")).items()} == {
            name: log[4] for name, log in (await contents(store)).items()
        }


async def test_a_first_run_that_did_not_end_is_said_to_lack_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "COMMIT_BYTES", 2_000)
    folder, part = tmp_path / "backup", tmp_path / "part"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 12)
        await backed_up(store, folder)
    data = (folder / "000001.ebb").read_bytes()
    part.mkdir()
    (part / "000001.ebb").write_bytes(data[: len(data) * 2 // 3])
    report = await restored(part, tmp_path / "restored.sqlite")
    assert said(report).startswith("ebbtide: backup-unfinished: the backup: ")
    assert report.troubles == 1
    assert 0 < report.documents < 12


async def test_a_run_that_was_killed_leaves_the_last_commit(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 4)
        await backed_up(store, folder)
        with Archive(folder, write=True) as archive:
            archive.add_entries("d0", "d0", [(await store.read("d0", 0, 1))[0]._replace(seq=len(real_updates(0)) + 1)])
        with Archive(folder, write=False) as archive:
            known = archive.known("d0")
            assert known is not None
            assert known.head == len(real_updates(0))


async def test_the_index_is_made_anew_when_it_is_lost_or_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 8)
        await backed_up(store, folder)
    for change in (Path.unlink, lambda path: path.write_bytes(b"x" * 8192), lambda path: path.write_bytes(b"")):
        change(folder / "index.sqlite")
        with Archive(folder, write=False) as archive:
            assert archive.count()[0] == 8
        assert (folder / "index.sqlite").stat().st_size > 8192


async def test_an_index_that_is_behind_reads_on(tmp_path: Path) -> None:
    folder, index = tmp_path / "backup", tmp_path / "backup" / "index.sqlite"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 4)
        await backed_up(store, folder)
        older = index.read_bytes()
        await fill(store, 4, first=4)
        await backed_up(store, folder)
    index.write_bytes(older)
    with Archive(folder, write=False) as archive:
        assert archive.count()[0] == 8
    with closing(sqlite3.connect(index)) as database:
        database.execute("PRAGMA user_version=9")
    with closing(Index(index)) as made_anew:
        assert made_anew.count() == (0, 0)


@pytest.mark.parametrize("keep_index", [True, False])
async def test_damage_within_the_backup_is_not_taken_for_its_end(tmp_path: Path, keep_index: bool) -> None:
    folder = tmp_path / "backup"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 4)
        await backed_up(store, folder)
        await fill(store, 4, first=4)
        await backed_up(store, folder)
        segment = folder / "000001.ebb"
        data = bytearray(segment.read_bytes())
        data[len(data) // 3] ^= 1
        segment.write_bytes(data)
        if keep_index:
            with Archive(folder, write=False) as archive:
                assert ["checksum differs" in damage.reason for damage in archive.check()] == [True]
        else:
            (folder / "index.sqlite").unlink()
            with pytest.raises(ArchiveDamaged, match="checksum differs"):
                await backed_up(store, folder)
        assert segment.read_bytes() == data, "a damaged backup was changed"


async def test_a_shortened_backup_is_not_gone_on_from(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 4)
        await backed_up(store, folder)
        segment = folder / "000001.ebb"
        segment.write_bytes(segment.read_bytes()[:-100])
        with pytest.raises(ArchiveDamaged, match="shorter than it was"):
            await backed_up(store, folder)


async def test_files_that_went_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    folder = tmp_path / "backup"
    async with sqlite(tmp_path / "store.sqlite") as store:
        for first in (0, 4):
            await fill(store, 4, first=first)
            await backed_up(store, folder)
        # The index knows a place in the second; the third is empty yet.
        for gone in ("000003.ebb", "000002.ebb", "000001.ebb"):
            (folder / gone).unlink()
            if gone != "000003.ebb":
                with pytest.raises(ArchiveDamaged, match=r"000002\.ebb: is missing"):
                    await backed_up(store, folder)
                assert not (folder / gone).exists()


async def test_a_folder_of_another_store_is_refused(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "one.sqlite") as one, sqlite(tmp_path / "two.sqlite") as two:
        await fill(one, 2)
        await fill(two, 3)
        await backed_up(one, tmp_path / "backup")
        with pytest.raises(ArchiveUnusable, match="a backup of another store"):
            await backed_up(two, tmp_path / "backup")
        assert (await backed_up(one, tmp_path / "backup")).troubles == 0


async def test_a_store_that_was_put_back_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with sqlite(path) as store:
        await fill(store, 2)
    older = path.read_bytes()
    async with sqlite(path) as store:
        await append(store, "d0", len(real_updates(0)), texts(1, 10), "d0")
        await backed_up(store, tmp_path / "backup")
    path.write_bytes(older)
    async with sqlite(path) as store:
        with pytest.raises(ArchiveUnusable, match="put back to an older state"):
            await backed_up(store, tmp_path / "backup")
        # Other edits take the numbers of those that are gone.
        await append(store, "d0", len(real_updates(0)), texts(2, 10, seed=5), "d0")
        report = await backed_up(store, tmp_path / "backup")
    assert "history-differs: d0: entry" in said(report)


async def test_a_log_that_was_compacted_between_two_runs(tmp_path: Path) -> None:
    updates = texts(30, 10)
    async with sqlite(tmp_path / "store.sqlite") as store:
        await append(store, "a", 0, updates[:10])
        await backed_up(store, tmp_path / "backup")
        await append(store, "a", 10, updates[10:20], "a")
        await store.snapshot("a", 18, state_at(updates, 18))
        await store.compact("a", 15)
        await append(store, "a", 20, updates[20:], "a")
        assert (await backed_up(store, tmp_path / "backup")).troubles == 0
        await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
        assert await contents_of(tmp_path / "restored.sqlite") == await contents(store)


async def test_a_damaged_document_holds_up_nothing_and_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with sqlite(path) as store:
        await fill(store, 3)
        with closing(sqlite3.connect(path)) as database, database:
            of = "document = (SELECT id FROM documents WHERE name = 'd0') AND seq = 5"
            database.execute(f"CREATE TABLE lost AS SELECT * FROM entries WHERE {of}")
            database.execute(f"DELETE FROM entries WHERE {of}")
        report = await backed_up(store, tmp_path / "backup")
        assert report.troubles == 1
        assert "store-corrupted: d0: entries" in said(report)
        with Archive(tmp_path / "backup", write=False) as archive:
            assert [name for name, _ in archive.damaged()] == ["d0"]
            assert set(archive.names()) == {"d1", "d2"}
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("INSERT INTO entries SELECT * FROM lost")
        assert (await backed_up(store, tmp_path / "backup")).troubles == 0
        with Archive(tmp_path / "backup", write=False) as archive:
            assert archive.damaged() == []
            assert set(archive.names()) == {"d0", "d1", "d2"}


async def test_a_hole_before_the_snapshot_does_not_cost_the_document(tmp_path: Path) -> None:
    path, updates = tmp_path / "store.sqlite", texts(20, 10)
    async with sqlite(path) as store:
        await append(store, "a", 0, updates)
        await store.snapshot("a", 10, state_at(updates, 10))
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DELETE FROM entries WHERE seq = 5")
        report = await backed_up(store, tmp_path / "backup")
        assert "store-corrupted: a: " in said(report)
        await append(store, "a", 20, texts(21, 10)[20:])
        assert "store-corrupted: a: " in said(await backed_up(store, tmp_path / "backup"))
        assert (await restored(tmp_path / "backup", tmp_path / "restored.sqlite")).troubles == 0
        async with sqlite(tmp_path / "restored.sqlite") as other:
            assert await other.load("a") == await store.load("a")


class Edited:
    """A store in which one document is edited whenever any is loaded."""

    def __init__(self, store: Store, document: str) -> None:
        self._store = store
        self._document = document
        self.loads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load(self, document: str) -> Stored:
        self.loads += 1
        head = (await self._store.heads([self._document]))[self._document]
        await append(self._store, self._document, head, texts(1, 10, seed=head))
        return await self._store.load(document)


async def test_a_backup_is_of_the_moment_it_began_however_busy_the_store_is(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await fill(store, 5)
        busy = Edited(store, "d4")
        with Archive(tmp_path / "backup", write=True) as archive:
            await backup.back_up(cast("Store", busy), archive, quiet())
            known = archive.known("d4")
        assert known is not None
        assert known.head >= len(real_updates(4))
        assert busy.loads == 5, "the backup ran after what was edited while it ran"
