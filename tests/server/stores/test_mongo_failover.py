"""A failover right after an append: the new primary may know less to be durable than the old one acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pymongo.read_concern import ReadConcern

from server.stores.mongo import open_mongo
from server.stores.mongo_client import MongoOptions
from server.stores.mongo_database import Row
from sync.rooms.ports import Append, Appended, Change, Draft
from tests.harness.mongod import Member, ReplicaSet

DATABASE = "failover"
PATIENT = MongoOptions(timeout=30.0)
"""An election takes some seconds, on a busy machine more."""


class Heirs(NamedTuple):
    """A replica set of three, of which only two may become primary."""

    replica_set: ReplicaSet
    primary: Member
    heir: Member


@pytest.fixture
def heirs(tmp_path: Path) -> Iterator[Heirs]:
    with ReplicaSet(tmp_path / "mongo", members=3) as replica_set:
        primary = replica_set.primary()
        heir, never = (member for member in replica_set.members if member is not primary)
        with primary.client() as client:
            config = client.admin.command("replSetGetConfig")["config"]
            for member in config["members"]:
                member["priority"] = 0 if member["host"] == never.address else 1
            config["version"] += 1
            client.admin.command("replSetReconfig", config)
        yield Heirs(replica_set, primary, heir)


def learns_of_commits(member: Member, learns: bool) -> None:
    """Let what the member knows to be durable move on, or keep it as it is."""
    with member.client() as client:
        client.admin.command({"configureFailPoint": "disableSnapshotting", "mode": "off" if learns else "alwaysOn"})
        if learns:
            # It looks when there is news.
            client["elsewhere"]["news"].insert_one({})


async def test_an_append_just_before_it_is_numbered_although_the_new_primary_is_behind(heirs: Heirs) -> None:
    replica_set, primary, heir = heirs
    url = replica_set.url(DATABASE)
    store = await open_mongo(url, PATIENT)
    assert await store.append([Append("first", 0, [Draft(b"x")], "L")]) == [Appended(1)]
    assert (await store.changes(0, 10)).changes == [Change("first", 1)]
    async with asyncio.timeout(60):
        while _intents(heir) or not _numbered(heir):
            await asyncio.sleep(0.05)
        learns_of_commits(heir, False)
        assert await store.append([Append("late", 0, [Draft(b"x")], "L")]) == [Appended(1)]
        # Nothing came in between: it is not numbered yet.
        primary.kill()
        assert await asyncio.to_thread(replica_set.primary) is heir
        closing = asyncio.create_task(store.close())
        # Either for the append to be seen, or for what was written without it.
        while not _waiting(heir):
            await asyncio.sleep(0.05)
        learns_of_commits(heir, True)
        await closing
    again = await open_mongo(url, PATIENT)
    try:
        assert (await again.load("late")).head == 1
        assert dict((await again.changes(0, 10)).changes) == {"first": 1, "late": 1}
        assert await again.heads(["first", "late"]) == {"first": 1, "late": 1}
    finally:
        await again.close()
    assert _intents(heir) == 0


def _intents(member: Member) -> int:
    """How many there are, as far as the member knows them to be durable."""
    with member.client() as client:
        log = client[DATABASE].get_collection("log", read_concern=ReadConcern("majority"))
        return log.count_documents({"_id.d": ""})


def _numbered(member: Member) -> int:
    """How many documents the feed has, as far as the member knows that to be durable."""
    with member.client() as client:
        documents = client[DATABASE].get_collection("documents", read_concern=ReadConcern("majority"))
        return documents.count_documents({"number": {"$gt": 0}})


def _waiting(member: Member) -> list[Row]:
    """The readers and deleters of the log that the member keeps waiting just now."""
    in_log = {"command.$db": DATABASE, "active": True, "$or": [{"command.find": "log"}, {"command.delete": "log"}]}
    with member.client() as client:
        return list(client.admin.aggregate([{"$currentOp": {}}, {"$match": in_log}]))
