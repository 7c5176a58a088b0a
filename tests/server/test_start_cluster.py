"""What `ebbtide serve` says when MongoDB or Redis cannot be used: one line with what to do, exit status 2, no traceback."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from server.stores.errors import StoreUnusable
from server.stores.mongo_database import Row
from server.stores.mongo_demands import demand_durability
from tests.harness.mongod import Member, ReplicaSet
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse"
SETTINGS = ("--open", "--port", "0", "--store-timeout", "1")


def serving(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "server", "serve", *SETTINGS, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refusal(process: subprocess.Popen[str]) -> str:
    """The one line that a server said which did not start."""
    with process:
        try:
            said, complaint = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (2, ""), complaint
    assert complaint.startswith("ebbtide: ")
    assert complaint.count("\n") == 1, complaint
    assert "Traceback" not in complaint
    assert "secret" not in complaint
    return complaint.strip()


def test_an_address_without_a_database(replica_set: ReplicaSet) -> None:
    said = refusal(serving("--store", replica_set.address))
    assert said.endswith("names no database; write mongodb://HOST/DATABASE")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/eb.prod", "names a database with a dot"),
        ("/admin", "names a database of MongoDB's own"),
        ("/local", "names a database of MongoDB's own"),
        ("/a%00b", "/a%00b: is no address of a MongoDB: database names cannot contain the character"),
        ("/a%5Cb", "/a\\b: is no address of a MongoDB: database names cannot contain the character"),
        ("/" + "%C3%A9" * 32, "names a database with more than 63 bytes; write mongodb://HOST/DATABASE"),
        ("/db?tls=true&tlsCAFile=/nope", "/db: names a file that cannot be used (No such file or directory); correct --store"),
        ("/db?compressors=snappy", "/db: is no address of a MongoDB: Wire protocol compression with snappy is not available"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, reason: str) -> None:
    assert reason in refusal(serving("--store", f"mongodb://ann:secret@127.0.0.1:1{address}"))


@pytest.mark.parametrize("cut", ["12/secret", "12/secret.x", "12?secret=x"])
def test_a_password_that_is_not_escaped_is_not_repeated(cut: str) -> None:
    said = refusal(serving("--store", f"mongodb://ann:{cut}@127.0.0.1:1/db"))
    assert said.startswith("ebbtide: mongodb://127.0.0.1:1/db: is no address of a MongoDB; write %40 %2F")


@pytest.mark.parametrize("what", ["documents", "capped", "view"])
def test_a_database_of_another_program(replica_set: ReplicaSet, url: str, what: str) -> None:
    (member,) = replica_set.members
    with member.client() as client:
        database = client[url.rpartition("/")[2].partition("?")[0]]
        if what == "documents":
            database.documents.insert_one({"title": "of somebody else"})
        elif what == "capped":
            database.create_collection("log", capped=True, size=4096)
        else:
            database.create_collection("log", viewOn="other", pipeline=[])
        said = refusal(serving("--store", url))
        assert "meta" not in database.list_collection_names(), "something was made in it"
    named = {"documents": "collection documents of another program", "capped": "capped collection log", "view": "view log"}
    assert f"has a {named[what]}" in said
    assert said.endswith("name another database")


def test_nobody_listens() -> None:
    said = refusal(serving("--store", "mongodb://ann:secret@127.0.0.1:1/db"))
    assert said.startswith("ebbtide: mongodb://127.0.0.1:1/db: no MongoDB that can be written to answers")


def test_a_standalone_server(tmp_path: Path) -> None:
    with Member(tmp_path / "mongo", None) as member:
        said = refusal(serving("--store", f"mongodb://{member.address}/db"))
    assert "is a standalone mongod" in said
    assert said.endswith("start it with --replSet and run rs.initiate()")


@pytest.mark.parametrize(
    ("set_of_server", "options", "advice"),
    [
        ("rs0", "?replicaSet=rs0", "run rs.initiate() if that was never done, or start the others"),
        ("rs0", "", "run rs.initiate() if that was never done, or start the others"),
        (None, "?replicaSet=rs0", "correct replicaSet= in --store, or start mongod with that --replSet"),
    ],
)
def test_a_server_that_is_in_no_replica_set(tmp_path: Path, set_of_server: str | None, options: str, advice: str) -> None:
    member = Member(tmp_path / "mongo", set_of_server)
    member.start()
    try:
        member.wait_until_it_answers()
        said = refusal(serving("--store", f"mongodb://{member.address}/db{options}"))
    finally:
        member.kill()
    assert said.endswith(advice)


def test_a_server_that_keeps_nothing(tmp_path: Path) -> None:
    with ReplicaSet(tmp_path / "mongo", settings=("--storageEngine", "ephemeralForTest")) as replica_set:
        said = refusal(serving("--store", replica_set.url("db")))
        (member,) = replica_set.members
        with member.client() as client, pytest.raises(StoreUnusable, match="another storage engine than WiredTiger"):
            demand_durability(client.local.command("collStats", "oplog.rs"), "mongodb://h/db")
    assert "keeps data with the storage engine ephemeralForTest, which is not durable" in said


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A replica set that wants a password. `ann` may use the database `db`, `bob` none."""
    folder = tmp_path_factory.mktemp("guarded")
    key = folder / "key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    replica_set = ReplicaSet(folder / "mongo", settings=("--keyFile", str(key)))
    with replica_set:
        (member,) = replica_set.members
        with member.client() as client:
            # The exception for connections from the machine itself ends with the first user.
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        root: MongoClient[Row] = MongoClient(member.address, directConnection=True, username="root", password=PASSWORD)
        with root as client:
            client.admin.command("createUser", "ann", pwd=PASSWORD, roles=[{"role": "readWrite", "db": "db"}])
            client.admin.command("createUser", "bob", pwd=PASSWORD, roles=[])
        yield replica_set


@pytest.mark.parametrize("user", ["", "ann:secret@", "nobody:secret@", f"bob:{PASSWORD}@"])
def test_wrong_credentials(guarded: ReplicaSet, user: str) -> None:
    (member,) = guarded.members
    said = refusal(serving("--store", f"mongodb://{user}{member.address}/db?authSource=admin"))
    assert "refuses the user or the password; see the rights in docs/operations.md" in said


def test_the_documented_rights_are_enough(guarded: ReplicaSet, tmp_path: Path) -> None:
    (member,) = guarded.members
    store = f"mongodb://ann:{PASSWORD}@{member.address}/db?authSource=admin"
    with ServerProcess(tmp_path, "--store", store) as process:
        assert process.stop() == 0
        assert "Traceback" not in process.errors


@pytest.mark.parametrize("dies", [True, False])
def test_a_mongodb_that_does_not_answer(mortal: ReplicaSet, dies: bool) -> None:
    (member,) = mortal.members
    member.signal(signal.SIGSTOP)
    process = serving("--store", mortal.url("db"))
    if dies:
        member.kill()
    said = refusal(process)
    assert "no MongoDB that can be written to answers" in said
    assert said.endswith("see that it runs there, or correct --store")


def test_a_mongodb_that_dies_while_the_collections_are_made(mortal: ReplicaSet) -> None:
    (member,) = mortal.members
    with member.client() as client:
        blocking = {"failCommands": ["create"], "blockConnection": True, "blockTimeMS": 60_000}
        fail_point = client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": blocking})
        process = serving("--store", mortal.url("db"), "--store-timeout", "5")
        waiting = {"waitForFailPoint": "failCommand", "timesEntered": fail_point["count"] + 1, "maxTimeMS": 30_000}
        client.admin.command(waiting)
    member.kill()
    assert refusal(process).startswith("ebbtide: mongodb://127.0.0.1:")


def test_a_redis_with_another_password(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", password="right") as redis:
        address = redis.url.replace("right", "secret")
        said = refusal(serving("--data", str(tmp_path / "data"), "--bus", address))
    assert said.startswith(f"ebbtide: redis://127.0.0.1:{redis.port}: refuses the user or the password")
    assert said.endswith("correct --bus")


@pytest.mark.parametrize(
    "address",
    ["redis://[::1", "redis://:pa/secret@h", "redis://h/0?foo=bar", "rediss://:secret@h?ssl_ca_certs=/nope", "redis://h/abc"],
)
def test_an_address_of_no_redis(tmp_path: Path, address: str) -> None:
    assert refusal(serving("--data", str(tmp_path / "data"), "--bus", address)).startswith("ebbtide: redis")


def test_pool_settings_reach_the_server(replica_set: ReplicaSet, url: str, tmp_path: Path) -> None:
    (member,) = replica_set.members

    def connections(client: MongoClient[Row]) -> int:
        pipeline: list[Row] = [{"$currentOp": {"idleConnections": True}}, {"$match": {"appName": "ebbtide"}}]
        return len(list(client.admin.aggregate(pipeline)))

    with member.client() as client:
        before = connections(client)
        with ServerProcess(tmp_path, "--store", url, "--store-pool-least", "17") as process:
            deadline = time.monotonic() + 30
            while connections(client) < before + 17:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert process.stop() == 0
