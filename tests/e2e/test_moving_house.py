"""From SQLite to MongoDB and back, with a backup on the way: every log as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from server.stores.mongo import open_mongo
from sync.rooms.ports import Append, Draft
from tests.harness.mongod import ReplicaSet
from tests.server.archive.kit import append, contents, contents_of, fill, real_updates, sqlite
from tests.server.commands.kit import ebbtide, refused

FILE = "ebbtide.sqlite"


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("mongo")) as replica_set:
        yield replica_set


async def test_to_mongodb_and_back(replica_set: ReplicaSet, tmp_path: Path) -> None:
    home, url = tmp_path / "home" / FILE, replica_set.url("house")
    async with sqlite(home) as store:
        await fill(store, 24)
        # Entries of many commits, and so of many times.
        for head in range(len(real_updates(0)), len(real_updates(0)) + 5):
            await append(store, "d0", head, [b"\x00\x00"], "d0")
        expected = await contents(store)
    there = ebbtide("copy", f"sqlite:{home.parent}", url)
    assert there.fine, there
    mongo = await open_mongo(url)
    try:
        assert await contents(mongo) == expected
        again = ebbtide("copy", f"sqlite:{home.parent}", url)
        assert again.fine, again
        assert " 0 entries, " in again.out
        assert await contents(mongo) == expected
        verified = ebbtide("verify", "--store", url)
        assert verified.fine, verified
        assert verified.out.startswith(f"verified {replica_set.address}/house: 24 documents, ")
        # It is a store like any other: what is appended there goes on.
        head = expected["d2"][1]
        await mongo.append([Append("d2", head, [Draft(b"\x00\x00")], "d2")])
        expected = await contents(mongo)
        made = ebbtide("backup", str(tmp_path / "backup"), "--store", url)
        assert made.fine, made
    finally:
        await mongo.close()
    back = ebbtide("copy", url, f"sqlite:{tmp_path / 'back'}")
    assert back.fine, back
    assert await contents_of(tmp_path / "back" / FILE) == expected
    restored = ebbtide("restore", str(tmp_path / "backup"), EBBTIDE_STORE=replica_set.url("restored"))
    assert restored.fine, restored
    mongo = await open_mongo(replica_set.url("restored"))
    try:
        after = await contents(mongo)
        assert {name: (log[:2], log[4]) for name, log in after.items()} == {
            name: (log[:2], log[4]) for name, log in expected.items()
        }
    finally:
        await mongo.close()
    assert "is a backup of another store" in refused(
        ebbtide("backup", str(tmp_path / "backup"), "--store", replica_set.url("restored"))
    )


def test_a_database_that_is_not_there_is_not_made(replica_set: ReplicaSet, tmp_path: Path) -> None:
    url, folder = replica_set.url("mistyped"), tmp_path / "backup"
    for words in (["backup", str(folder), "--store", url], ["verify", "--store", url], ["copy", url, f"sqlite:{tmp_path}"]):
        assert "/mistyped: there is no store in this database; correct its name" in refused(ebbtide(*words))
    with MongoClient[dict[str, object]](url) as client:
        assert "mistyped" not in client.list_database_names()
    assert not folder.exists()
    assert not (tmp_path / FILE).exists()


async def test_an_entry_that_mongodb_cannot_hold_is_named(replica_set: ReplicaSet, tmp_path: Path) -> None:
    async with sqlite(tmp_path / "home" / FILE) as store:
        await fill(store, 3)
        await append(store, "huge", 0, [b"\x00" * (16 << 20)])
    ended = ebbtide("copy", f"sqlite:{tmp_path / 'home'}", replica_set.url("small"))
    assert ended.status == 1
    assert ended.err.startswith("ebbtide: update-too-large: huge: ")
    with MongoClient[dict[str, object]](replica_set.url("small")) as client:
        assert client.get_default_database().documents.count_documents({}) == 3
