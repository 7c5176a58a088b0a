"""A backup is its segments: an index that says otherwise is not believed, and damaged bytes take no other document away."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from io import BytesIO
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from server.archive import frames
from server.archive.archive import Archive
from server.archive.errors import ArchiveDamaged, ArchiveError, ArchiveUnusable
from server.archive.frames import Entries, FrameError
from server.archive.report import Report
from server.archive.segments import Place, Segments
from server.archive.verify import verify_archive
from tests.server.archive.kit import append, backed_up, contents_of, quiet, restored, said, sqlite, texts

NAMES = ["d0", "d1", "d2", "d3"]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A backup of four documents, made in two runs."""
    updates = {name: texts(40, 40, number) for number, name in enumerate(NAMES)}
    async with sqlite(tmp_path / "store.sqlite") as store:
        for head in (0, 20):
            for name in NAMES:
                await append(store, name, head, updates[name][head : head + 20])
            await backed_up(store, tmp_path / "backup")
    return tmp_path / "backup"


async def verified(folder: Path) -> Report:
    report = quiet()
    with Archive(folder, write=False) as archive:
        await verify_archive(archive, report)
    return report


def change_index(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "index.sqlite")) as database, database:
        for statement in statements:
            assert database.execute(statement).rowcount


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM documents WHERE name = 'd2'",
        "DELETE FROM pieces",
        "DELETE FROM progress",
        "UPDATE pieces SET offset = 'abc'",
        "UPDATE progress SET offset = 'abc'",
    ],
)
async def test_an_index_that_lost_something_is_made_anew(folder: Path, tmp_path: Path, statement: str) -> None:
    change_index(folder, statement)
    report = await restored(folder, tmp_path / "restored.sqlite")
    assert (report.documents, report.troubles) == (4, 0)
    assert await contents_of(tmp_path / "restored.sqlite") == await contents_of(tmp_path / "store.sqlite")
    assert said(await verified(folder)) == ""


@pytest.mark.parametrize(
    "statement",
    ["UPDATE documents SET name = 'other' WHERE name = 'd2'", "UPDATE pieces SET latest = 0", "UPDATE progress SET cursor = 1"],
)
async def test_verify_compares_the_index_with_the_segments(folder: Path, statement: str) -> None:
    change_index(folder, statement)
    assert "index.sqlite: does not agree with the segments; delete it" in said(await verified(folder))


async def test_an_index_that_leads_to_another_document(folder: Path, tmp_path: Path) -> None:
    change_index(
        folder,
        "UPDATE pieces SET offset = (SELECT offset FROM pieces p WHERE p.document = 1 AND p.first = pieces.first) "
        "WHERE document = 2",
    )
    report = await restored(folder, tmp_path / "restored.sqlite")
    assert "backup-damaged: d1: " in said(report)
    assert sorted(await contents_of(tmp_path / "restored.sqlite")) == ["d0", "d2", "d3"]


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("keep_index", [True, False])
async def test_one_damaged_byte_takes_one_document_away(folder: Path, tmp_path: Path, run: int, keep_index: bool) -> None:
    with closing(Segments(folder, write=False)) as segments:
        ends = [end for _, end, record in segments.scan(Place(0, 0)) if isinstance(record, Entries) and record.document == "d1"]
    segment = folder / "000001.ebb"
    data = bytearray(segment.read_bytes())
    data[ends[run].offset - 10] ^= 1
    segment.write_bytes(data)
    if not keep_index:
        (folder / "index.sqlite").unlink()
    report = await restored(folder, tmp_path / "restored.sqlite")
    assert "backup-damaged: d1: " in said(report)
    whole = {name: log for name, log in (await contents_of(tmp_path / "store.sqlite")).items() if name != "d1"}
    there = await contents_of(tmp_path / "restored.sqlite")
    assert {name: log for name, log in there.items() if name != "d1"} == whole
    assert len(there.get("d1", ("", 0, 0, None, ()))[4]) in (0, 20 * run), "what precedes the damage, or nothing"
    assert "checksum differs, at byte " in said(await verified(folder))
    if not keep_index:
        with pytest.raises(ArchiveDamaged, match="checksum differs"):
            Archive(folder, write=True)


def refusal(folder: Path, *, write: bool) -> ArchiveError:
    with pytest.raises(ArchiveError) as raised:
        Archive(folder, write=write)
    return raised.value


@pytest.mark.parametrize("write", [True, False])
async def test_what_is_no_segment_is_refused(folder: Path, write: bool) -> None:
    (folder / "000000.ebb").write_bytes((folder / "000001.ebb").read_bytes())
    assert "holds 000000.ebb, which is none of a backup" in refusal(folder, write=write).reason
    (folder / "000000.ebb").unlink()
    for make in (os.mkfifo, os.mkdir):
        make(folder / "000002.ebb")
        assert isinstance(error := refusal(folder, write=write), ArchiveUnusable)
        assert "000002.ebb: is no file" in error.reason
        if make is os.mkfifo:
            (folder / "000002.ebb").unlink()


@pytest.mark.parametrize("update", ["text", None])
def test_an_entry_with_values_of_the_wrong_kind(update: object) -> None:
    record = Entries("d", "l", 1, 1, 0)
    found = frames.read(BytesIO(frames.encode(record, msgpack.packb([[update, "a", "b", 0]]))))
    assert found is not None
    with pytest.raises(FrameError, match="values of the wrong kind"):
        frames.unpack_entries(*found)  # type: ignore[arg-type]


def test_a_number_that_no_store_has() -> None:
    with pytest.raises(FrameError, match="out of bounds"):
        frames.read(BytesIO(frames.encode(Entries("d", "l", 1, 1, 2**63))))


async def test_a_document_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "store.sqlite") as store:
        await append(store, "a", 0, texts(20, 40))
        await backed_up(store, tmp_path / "backup")
    segment = tmp_path / "backup" / "000001.ebb"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    (tmp_path / "backup" / "index.sqlite").unlink()
    report = await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
    assert "backup-damaged: a: " in said(report)
    assert await contents_of(tmp_path / "restored.sqlite") == {}
