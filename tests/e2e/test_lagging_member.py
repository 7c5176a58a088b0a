"""The commands beside a member that lags: what the primary has is what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, ReadPreference
from pymongo.read_concern import ReadConcern

from server.stores.mongo import open_mongo
from tests.harness.mongod import Member, ReplicaSet
from tests.server.archive.kit import append, texts
from tests.server.commands.kit import ebbtide, refused


@pytest.fixture
def lagging(tmp_path: Path) -> Iterator[tuple[ReplicaSet, Member]]:
    """A primary, and a member without a vote, so that nobody waits for it."""
    with ReplicaSet(tmp_path / "mongo", members=2) as replica_set:
        primary = replica_set.primary()
        (other,) = [member for member in replica_set.members if member is not primary]
        with primary.client() as client:
            config = client.admin.command("replSetGetConfig")["config"]
            for member in config["members"]:
                if member["host"] == other.address:
                    member["votes"] = member["priority"] = 0
            config["version"] += 1
            client.admin.command("replSetReconfig", config)
        yield replica_set, other


def follow(member: Member, mode: str) -> None:
    """Keep the member from following the primary ("alwaysOn"), or let it ("off")."""
    with member.client() as client:
        client.admin.command({"configureFailPoint": "rsSyncApplyStop", "mode": mode})


async def test_a_member_that_lags_is_not_asked(lagging: tuple[ReplicaSet, Member], tmp_path: Path) -> None:
    replica_set, other = lagging
    url = replica_set.url("lagging")
    store = await open_mongo(url)
    try:
        for name in ("a", "b", "c"):
            await append(store, name, 0, texts(2, 10))
        first = ebbtide("backup", str(tmp_path / "before"), "--store", url)
        assert first.fine, first
        await _caught_up(url, other)
        follow(other, "alwaysOn")
        for name in ("d", "e", "f"):
            await append(store, name, 0, texts(2, 10))
        for folder in ("before", "fresh"):
            made = ebbtide("backup", str(tmp_path / folder), "--store", url, EBBTIDE_STORE_READS="secondary")
            assert made.fine, made
            assert ": 6 documents, 12 entries, " in made.out
        assert "unknown option --store-reads" in refused(ebbtide("verify", "--store", url, "--store-reads", "secondary"))
    finally:
        follow(other, "off")
        await store.close()


async def _caught_up(url: str, member: Member) -> None:
    """Return when the member has the three documents, so that it can be asked and answers with too few later."""
    with MongoClient[dict[str, Any]](url, readPreference="secondary") as client:
        documents = client.get_default_database().documents.with_options(
            read_preference=ReadPreference.SECONDARY, read_concern=ReadConcern("majority")
        )
        while documents.count_documents({"number": {"$gt": 0}}) < 3:
            await asyncio.sleep(0.02)
