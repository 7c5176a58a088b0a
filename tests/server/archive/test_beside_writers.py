"""Backups while other processes append, on both stores: prefixes meanwhile, and all of it in the end."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.archive.archive import Archive
from server.archive.backup import back_up
from server.archive.copy import copy
from sync.rooms.ports import Entry, Store
from tests.contracts.store.backend import StoreBackend
from tests.contracts.store.writing import Writing
from tests.harness.mongod import ReplicaSet
from tests.server.archive.kit import contents, contents_of, quiet, restored, sqlite
from tests.server.stores.mongo_backend import MongoBackend
from tests.server.stores.sqlite_backend import SqliteBackend

COMMITS = 120


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("mongo")) as replica_set:
        yield replica_set


@pytest.fixture(params=["sqlite", "mongodb"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreBackend]:
    if request.param == "sqlite":
        yield SqliteBackend(tmp_path)
        return
    replica_set: ReplicaSet = request.getfixturevalue("replica_set")
    mongo = MongoBackend(replica_set.url(f"backup_{secrets.token_hex(4)}"))
    yield mongo
    mongo.close()


async def held(archive: Archive) -> dict[str, list[Entry]]:
    """All entries of a backup."""
    found = {}
    for name in archive.names():
        log = archive.log(name)
        assert log is not None
        found[name] = [entry async for page in log.pages(0) for entry in page]
        assert [entry.seq for entry in found[name]] == list(range(1, log.head + 1))
    return found


async def test_backups_beside_two_writers(backend: StoreBackend, tmp_path: Path) -> None:
    store: Store = await backend.open()
    writers = [
        Writing([sys.executable, "-m", "tests.contracts.writer", backend.opener, backend.address, name, "5", str(COMMITS)])
        for name in ("left", "right")
    ]
    finished = asyncio.gather(*[writer.finish() for writer in writers])
    seen: list[dict[str, list[Entry]]] = []
    runs = 0
    try:
        last = False
        while not last:
            last = finished.done()
            with Archive(tmp_path / "backup", write=True) as archive:
                await back_up(store, archive, quiet())
                seen.append(await held(archive))
            runs += 1
        await finished
        assert runs > 2
        expected = {name: list(log[4]) for name, log in (await contents(store)).items()}
        assert len(expected) == 5
        assert seen[-1] == expected
        for earlier in seen:
            for name, entries in earlier.items():
                assert entries == expected[name][: len(entries)]
        await restored(tmp_path / "backup", tmp_path / "restored.sqlite")
        assert await contents_of(tmp_path / "restored.sqlite") == await contents(store)
        async with sqlite(tmp_path / "copied.sqlite") as target:
            await copy(store, target, quiet())
            assert await contents(target) == await contents(store)
    finally:
        await store.close()
