"""The SQLite store: the contract, and attacks on the file itself."""
# ruff: noqa: ASYNC240  a test may block its loop: nobody else is on it

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from server.stores.errors import StoreUnusable
from server.stores.sqlite import SqliteStore, open_sqlite
from server.stores.sqlite_writer import ABANDONED_AFTER, CHECKPOINT_PAGES
from sync.rooms.errors import RoomError, StoreCorrupted, StoreUnavailable
from sync.rooms.ports import Append, Appended, Draft
from tests.contracts.store.contract import StoreContract
from tests.contracts.store.logs import fill, updates
from tests.server.stores.sqlite_backend import SqliteBackend

PAGE = 4096


class TestSqliteContract(StoreContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SqliteBackend:
        return SqliteBackend(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(path, lock_wait=0.1)
    yield store
    await store.close()


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def one(connection: sqlite3.Connection, statement: str) -> object:
    return connection.execute(statement).fetchone()[0]


async def append(store: SqliteStore, document: str, head: int, size: int = 1) -> None:
    assert await store.append([Append(document, head, [Draft(bytes(size))], "L")]) == [Appended(head + 1)]


async def test_the_file_and_its_directory_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "er" / "store.sqlite"
    store = await open_sqlite(path)
    await fill(store, "a", 1)
    await store.close()
    with connected(path) as connection:
        assert one(connection, "PRAGMA journal_mode") == "wal"
        assert one(connection, "PRAGMA integrity_check") == "ok"


async def test_after_closing_the_file_alone_is_the_store(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    await fill(store, "a", 100)
    await store.close()
    copy = shutil.copy(path, tmp_path / "copy.sqlite")
    copied = await open_sqlite(Path(copy))
    assert len((await copied.load("a")).entries) == 100
    await copied.close()


async def test_every_commit_is_synced(store: SqliteStore) -> None:
    level = await store._writing.run(lambda: one(store._writer._connection, "PRAGMA synchronous"))
    assert level == 2, "FULL: in WAL mode, a sync of the log at every commit"


async def test_many_openers_of_a_new_file(path: Path) -> None:
    stores = await asyncio.gather(*[open_sqlite(path) for _ in range(8)])
    for head, store in enumerate(stores):
        await append(store, "a", head)
    for store in stores:
        await store.close()


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    store = await open_sqlite(path)
    await fill(store, "a", 1)
    await store.close()


async def refusal(path: Path, error: type[RoomError]) -> str:
    """Why the store could not be opened, after trying."""
    with pytest.raises(error) as raised:
        await open_sqlite(path, lock_wait=0.1)
    return raised.value.reason


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in await refusal(tmp_path, StoreUnusable)


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be made" in await refusal(tmp_path / "file" / "store.sqlite", StoreUnusable)


async def test_a_text_file_is_refused_and_left_as_it_was(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    assert "damaged" in await refusal(path, StoreCorrupted)
    assert path.read_text() == "Dear diary, " * 1000


@pytest.mark.parametrize("made_by", ["CREATE TABLE notes (text)", "PRAGMA application_id=77", "PRAGMA user_version=3"])
async def test_a_foreign_database_is_refused_and_left_as_it_was(path: Path, made_by: str) -> None:
    with connected(path) as connection:
        connection.execute(made_by)
    before = path.read_bytes()
    assert "another application" in await refusal(path, StoreUnusable)
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused_and_left_as_it_was(store: SqliteStore, path: Path) -> None:
    await store.close()
    with connected(path) as connection:
        connection.execute("PRAGMA user_version=9")
        connection.execute("PRAGMA journal_mode=DELETE")
    before = path.read_bytes()
    assert "has schema 9" in await refusal(path, StoreUnusable)
    assert path.read_bytes() == before


async def test_a_database_that_cannot_have_a_log_is_refused() -> None:
    # A database in memory has no write-ahead log, as a file on some network file systems has none.
    assert "write-ahead log" in await refusal(Path(":memory:"), StoreUnusable)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "cannot be opened" in await refusal(tmp_path / "store.sqlite", StoreUnusable)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
async def test_a_place_where_no_file_can_be_made_is_refused() -> None:
    assert "cannot be opened" in await refusal(Path("/proc/store.sqlite"), StoreUnusable)


async def test_a_file_that_is_locked_for_good_is_unavailable(path: Path) -> None:
    with connected(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("CREATE TABLE t (x)")
        assert "locked" in await refusal(path, StoreUnavailable)


async def test_another_process_in_a_long_transaction(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 2)
    with connected(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="write lock"):
            await append(store, "a", 2)
        with pytest.raises(StoreUnavailable):
            await store.check()
        assert len((await store.load("a")).entries) == 2
        connection.execute("COMMIT")
    await append(store, "a", 2)
    await store.check()


async def test_a_full_database(store: SqliteStore) -> None:
    await fill(store, "a", 1)

    def limit(pages: int) -> None:
        store._writer._connection.execute(f"PRAGMA max_page_count={pages}")

    await store._writing.run(limit, 1)  # as many as there are
    with pytest.raises(StoreUnavailable, match="full"):
        await store.append([Append("a", 1, [Draft(bytes(50_000), "new", "new")], "L"), Append("b", 0, [Draft(b"")], "L")])
    with pytest.raises(StoreUnavailable):
        await store.snapshot("a", 1, os.urandom(3 << 20))
    assert updates((await store.load("a")).entries) == [b"1"]
    assert await store.heads(["a", "b"]) == {"a": 1}
    await store._writing.run(limit, 10_000)
    assert await store.append([Append("a", 1, [Draft(b"2", "new", "new")], "L")]) == [Appended(2)]
    assert (await store.load("a")).entries[1].author == "new"
    await store.snapshot("a", 1, os.urandom(3 << 20))
    await store.check()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_takes_no_more(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 1)
    log = path.with_name(path.name + "-wal")
    with files_of_at_most(log.stat().st_size + 3 * PAGE):
        with pytest.raises(StoreUnavailable):
            await append(store, "a", 1, 500_000)
        with pytest.raises(StoreUnavailable):
            await append(store, "a", 1, 500_000)
        assert (await store.load("a")).head == 1
    await append(store, "a", 1, 500_000)
    await store.close()
    with connected(path) as connection:
        assert one(connection, "PRAGMA integrity_check") == "ok"


async def test_a_file_that_was_removed_fails_the_check(store: SqliteStore, path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.check()
    path.touch()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.check()


def overwrite(path: Path, keep: int) -> None:
    data = bytearray(path.read_bytes())
    data[keep:] = os.urandom(len(data) - keep)
    path.write_bytes(data)


def truncate(path: Path, keep: int) -> None:
    os.truncate(path, keep)


@pytest.mark.parametrize("damage", [overwrite, truncate])
@pytest.mark.parametrize("keep", [100, PAGE, 4 * PAGE, 12 * PAGE])
async def test_a_damaged_file_is_an_error_with_a_name(
    store: SqliteStore, path: Path, damage: Callable[[Path, int], None], keep: int
) -> None:
    await fill(store, "a", 5000)
    await store.close()
    whole = path.stat().st_size
    damage(path, keep)
    assert path.stat().st_size <= whole
    with pytest.raises(StoreCorrupted):
        await read_everything(path)


@pytest.mark.parametrize("table", ["documents", "heads"])
@pytest.mark.parametrize("reopened", [False, True])
async def test_a_document_whose_record_is_lost_is_not_begun_anew(
    store: SqliteStore, path: Path, table: str, reopened: bool
) -> None:
    await fill(store, "other", 1)
    await fill(store, "a", 200)
    with connected(path) as connection:
        assert connection.execute(f"DELETE FROM {table} WHERE rowid = 2").rowcount == 1
    if reopened:
        await store.close()
        store = await open_sqlite(path)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.load("a"),
        lambda: store.read("a", 0, 10),
        lambda: store.snapshot("a", 200, b"state"),
        lambda: append(store, "a", 0),
        lambda: append(store, "a", 200),
    ]
    for call in calls:
        with pytest.raises(StoreCorrupted, match="lost") as raised:
            await call()
        assert raised.value.document == "a"
    await append(store, "other", 1)
    await append(store, "new", 0)
    assert (await store.load("new")).head == 1
    if reopened:
        await store.close()


@pytest.mark.parametrize("tables", [["documents", "names"], ["documents", "names", "heads"]])
@pytest.mark.parametrize("length", [5, 200])
async def test_nobody_takes_over_what_a_document_without_a_name_has(
    store: SqliteStore, path: Path, tables: list[str], length: int
) -> None:
    await fill(store, "other", 1)
    await fill(store, "a", length)
    with connected(path) as connection:
        for table in tables:
            key = {"documents": "id", "names": "document", "heads": "document"}[table]
            assert connection.execute(f"DELETE FROM {table} WHERE {key} = 2").rowcount == 1
    await append(store, "new", 0)
    assert [entry.seq for entry in (await store.load("new")).entries] == [1]
    assert [entry.update for entry in await store.read("new", 0, 10)] == [bytes(1)]
    await append(store, "other", 1)
    assert [change.document for change in (await store.changes(0, 10)).changes] == ["new", "other"]


async def test_a_file_without_names_gets_them_as_it_is_opened(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 3)
    await store.close()
    with connected(path) as connection:
        connection.execute("DROP TABLE names")
    stores = await asyncio.gather(*[open_sqlite(path) for _ in range(4)])
    await append(stores[0], "a", 3)
    await append(stores[1], "b", 0)
    with connected(path) as connection:
        assert connection.execute("DELETE FROM documents").rowcount == 2
    for document in ("a", "b"):
        with pytest.raises(StoreCorrupted, match="lost"):
            await stores[2].load(document)
    for each in stores:
        await each.close()


async def read_everything(path: Path) -> None:
    store = await open_sqlite(path)
    try:
        await store.load("a")
    finally:
        await store.close()


async def test_the_log_is_brought_in_again_and_again(store: SqliteStore, path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    for head in range(120):
        await append(store, "a", head, 800_000)
    assert path.stat().st_size > 60_000_000
    assert log.stat().st_size < 2 * CHECKPOINT_PAGES * PAGE


async def test_a_reader_that_never_ends_does_not_stop_appends(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 1)
    with connected(path) as connection:
        connection.execute("BEGIN")
        assert one(connection, "SELECT head FROM heads") == 1
        for head in range(1, 50):
            await append(store, "a", head, 800_000)
        assert one(connection, "SELECT head FROM heads") == 1
        connection.execute("COMMIT")
    await append(store, "a", 50)
    assert (await store.load("a")).head == 51


async def test_uploads_that_nobody_finished_are_swept_away(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 1)
    with connected(path) as connection:
        connection.execute("INSERT INTO uploads (id, begun) VALUES (7, 0), (8, ?)", (2**50,))
        connection.execute("INSERT INTO parts (upload, part, data) VALUES (7, 0, 'old'), (8, 0, 'under way')")
        await store.snapshot("a", 1, os.urandom(3 << 20))
        assert connection.execute("SELECT id FROM uploads").fetchall() == [(8,)]
        assert one(connection, "SELECT count(*) FROM parts") == 1 + 3


async def test_an_upload_that_was_swept_away_is_not_a_snapshot(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 1)
    upload = await store._writing.run(store._writer.begin_upload, "a", 1)
    assert upload is not None
    await store._writing.run(store._writer.add_part, upload, 0, b"x")
    with connected(path) as connection:
        connection.execute("UPDATE uploads SET begun = begun - ?", (ABANDONED_AFTER + 60_000,))
    await store._writing.run(store._writer.begin_upload, "a", 1)
    with pytest.raises(StoreUnavailable):
        await store._writing.run(store._writer.keep_snapshot, "a", 1, upload, 2, b"y", 2)
    assert (await store.load("a")).snapshot is None


async def test_snapshots_leave_nothing_behind(store: SqliteStore, path: Path) -> None:
    await fill(store, "a", 5)
    for seq in (1, 3, 2, 5, 5):
        await store.snapshot("a", seq, os.urandom(2 << 20))
    with connected(path) as connection:
        assert one(connection, "SELECT count(*) FROM parts") == 2
        assert one(connection, "SELECT count(*) FROM uploads") == 0


@pytest.mark.parametrize("size", [1, 3 << 20])
async def test_a_snapshot_at_no_entry_is_the_callers_mistake(store: SqliteStore, size: int) -> None:
    with pytest.raises(ValueError, match="no entry 1"):
        await store.snapshot("a", 1, bytes(size))
    await fill(store, "a", 1)
    for seq in (0, 2):
        with pytest.raises(ValueError, match=f"no entry {seq}"):
            await store.snapshot("a", seq, bytes(size))


async def test_a_batch_that_breaks_the_rules_is_the_callers_mistake(store: SqliteStore) -> None:
    twice = Append("a", 0, [Draft(b"x")], "L")
    with pytest.raises(ValueError, match="twice"):
        await store.append([twice, twice])
    with pytest.raises(ValueError, match="no draft"):
        await store.append([Append("a", 0, [], "L")])
    assert (await store.load("a")).lineage is None


async def test_no_call_after_closing(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.load("a")
    with pytest.raises(StoreUnavailable, match="closed"):
        await append(store, "a", 0)
