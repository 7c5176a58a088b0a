"""Revocations of several nodes in a real MongoDB that comes and goes, through both drivers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from bson import encode
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from server.access import mongo_list as module
from server.access import revocations as bounds
from server.access.errors import RevocationNotSpread
from server.access.mongo_list import CLOSE_SECONDS, MongoList, open_mongo_list
from server.access.revocations import Revocations
from server.stores.errors import StoreUnusable
from server.stores.mongo_client import MongoOptions, connect
from server.stores.mongo_database import Mongo
from sync.rooms.errors import StoreUnavailable
from tests.harness.mongod import ReplicaSet
from tests.server.access.kit import HOURS, PATIENCE, Node, check_a_mistake_of_ours, subject


class OnMongo(Node):
    def __init__(self, mongo: Mongo, list_: MongoList, revocations: Revocations) -> None:
        super().__init__(list_, revocations)
        self.mongo = mongo

    async def close(self) -> None:
        await super().close()
        await self.mongo.close()


Join = Callable[..., Awaitable[OnMongo]]
Rows = Any


@pytest.fixture(params=["pymongo", "motor"])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _no_comparison_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does not say otherwise about is learnt by the stream, or because one was opened."""
    monkeypatch.setattr(module, "COMPARE_SECONDS", 3600.0)


@pytest.fixture
async def join(driver: str) -> AsyncIterator[Join]:
    nodes: list[OnMongo] = []

    async def join(address: str, patience: float = 5.0) -> OnMongo:
        mongo = await connect(f"{address}&heartbeatFrequencyMS=500", MongoOptions(driver=driver, timeout=patience))
        revocations = Revocations(HOURS, time.time, lambda call: None)
        try:
            list_ = await open_mongo_list(mongo, revocations)
        except BaseException:
            await mongo.close()
            raise
        nodes.append(OnMongo(mongo, list_, revocations))
        await nodes[-1].is_healthy()
        return nodes[-1]

    yield join
    for node in nodes:
        await node.close()


@pytest.fixture
def rows(url: str) -> Iterator[Rows]:
    """The collection, as another hand has it."""
    with MongoClient[dict[str, Any]](url) as client:
        yield client.get_default_database().revocations


async def test_a_revocation_reaches_those_who_are_there_and_those_who_come(join: Join, url: str) -> None:
    one, two = await join(url), await join(url)
    entry = subject()
    await one.revokes(entry)
    await two.learns(entry)
    later = subject(at=entry.at + 1)
    await two.revokes(later)
    await one.learns(later)
    three = await join(url)
    assert set(three.revocations) == {later}


async def test_a_node_knows_all_before_it_serves(join: Join, url: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    one = await join(url)
    entries = [subject(f"{number}") for number in range(10)]
    for entry in entries:
        await one.revokes(entry)
    revocations = Revocations(HOURS, time.time, lambda call: None)
    list_ = await open_mongo_list(one.mongo, revocations)
    assert set(revocations) == set(entries)
    await list_.close()


async def test_the_later_time_stands_whoever_writes_last(join: Join, url: str, rows: Rows) -> None:
    one, two = await join(url), await join(url)
    now = float(int(time.time()))
    await one.carrier.spread(subject(at=now))
    await two.carrier.spread(subject(at=now - 100))
    assert list(rows.find()) == [{"_id": "sada", "at": now}]


async def test_what_has_expired_is_neither_kept_nor_learnt(join: Join, url: str, rows: Rows) -> None:
    old = time.time() - HOURS * 3600 - 10
    rows.insert_many([{"_id": "sold", "at": old}, {"_id": "snew", "at": old + 100}])
    node = await join(url)
    assert {each.name for each in node.revocations} == {"new"}
    assert [each["_id"] for each in rows.find()] == ["snew"]


async def test_what_mongodb_lost_or_never_had_is_written_again(
    join: Join, url: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.1)
    monkeypatch.setattr(module, "PAGE", 4)
    one = await join(url)
    # As another carrier tells of them.
    entries = [subject(f"{number}") for number in range(10)]
    for entry in entries:
        one.revocations.learn(entry)
    async with asyncio.timeout(PATIENCE):
        while rows.count_documents({}) < len(entries):
            await asyncio.sleep(0.02)
    two = await join(url)
    assert set(two.revocations) == set(entries)


async def test_without_a_stream_entries_come_all_the_same(join: Join, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.1)
    one, two = await join(url), await join(url)
    failing: dict[str, Any] = {"configureFailPoint": "failCommand"}
    streams = {"failCommands": ["aggregate", "getMore"], "errorCode": 286}
    await one.mongo.client.admin.command(failing | {"mode": "alwaysOn", "data": streams})
    try:
        await two.is_healthy(False)
        entry = subject()
        await one.revokes(entry)
        await two.learns(entry)
        assert not two.carrier.healthy
    finally:
        await one.mongo.client.admin.command(failing | {"mode": "off"})
    await two.is_healthy()


async def test_what_was_written_between_two_streams_is_learnt_with_the_second(join: Join, url: str) -> None:
    one, two = await join(url), await join(url)
    failing: dict[str, Any] = {"configureFailPoint": "failCommand"}
    streams = {"failCommands": ["aggregate", "getMore"], "closeConnection": True}
    await one.mongo.client.admin.command(failing | {"mode": "alwaysOn", "data": streams})
    try:
        await two.is_healthy(False)
        entry = subject()
        await one.revokes(entry)
    finally:
        await one.mongo.client.admin.command(failing | {"mode": "off"})
    await two.learns(entry)
    await two.is_healthy()


async def test_a_collection_that_was_dropped_is_filled_again(join: Join, url: str, rows: Rows) -> None:
    one, two = await join(url), await join(url)
    entry, other = subject(), subject("bob")
    await one.revokes(entry)
    await two.learns(entry)
    rows.drop()
    await two.is_healthy(False)
    await two.is_healthy()
    async with asyncio.timeout(PATIENCE):
        while rows.find_one({"_id": "sada"}) is None:
            await asyncio.sleep(0.02)
    await one.revokes(other)
    await two.learns(other)


async def test_mongodb_goes_and_comes_back(
    join: Join, mortal: ReplicaSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = mortal.url("db")
    one, two = await join(url, 1.0), await join(url, 1.0)
    before, meanwhile, after = subject("before"), subject("meanwhile"), subject("after")
    await one.revokes(before)
    (member,) = mortal.members
    member.kill()
    for node in (one, two):
        await node.is_healthy(False)
    with pytest.raises(RevocationNotSpread, match="MongoDB cannot be written to"):
        await one.revokes(meanwhile)
    await asyncio.to_thread(member.start)
    await asyncio.to_thread(mortal.primary)
    await two.learns(before, meanwhile)
    for node in (one, two):
        await node.is_healthy()
    await two.revokes(after)
    await one.learns(after)
    three = await join(url)
    assert set(three.revocations) == {before, meanwhile, after}
    said = [each for each in caplog.records if each.message == "revocations of other nodes come late"]
    assert len(said) == 2, "one line of each node for an outage"


async def test_a_mongodb_that_hangs_holds_up_nobody_for_long(join: Join, url: str, replica_set: ReplicaSet) -> None:
    one = await join(url, 0.5)
    (member,) = replica_set.members
    member.signal(signal.SIGSTOP)
    try:
        with pytest.raises(RevocationNotSpread):
            await one.revokes(subject())
        async with asyncio.timeout(CLOSE_SECONDS + 2):
            await one.carrier.close()
    finally:
        member.signal(signal.SIGCONT)


async def test_who_revokes_is_answered_though_mongodb_hangs_and_others_learn_it_later(
    join: Join, url: str, replica_set: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPREAD_SECONDS", 0.5)
    one, two = await join(url, PATIENCE), await join(url, PATIENCE)
    ada = subject()
    (member,) = replica_set.members
    member.signal(signal.SIGSTOP)
    try:
        # Long before the driver gives up.
        async with asyncio.timeout(PATIENCE / 2):
            with pytest.raises(RevocationNotSpread, match="MongoDB does not answer"):
                await one.revokes(ada)
        assert set(two.revocations) == set()
    finally:
        member.signal(signal.SIGCONT)
    await two.learns(ada)


async def test_a_start_that_cannot_read_the_list_fails(join: Join, url: str) -> None:
    one = await join(url)
    failing: dict[str, Any] = {"configureFailPoint": "failCommand", "data": {"failCommands": ["delete"], "errorCode": 13}}
    await one.mongo.client.admin.command(failing | {"mode": "alwaysOn"})
    try:
        with pytest.raises(StoreUnavailable):
            await join(url)
    finally:
        await one.mongo.client.admin.command(failing | {"mode": "off"})


async def test_what_another_hand_writes_is_passed_over(join: Join, url: str, rows: Rows) -> None:
    now = time.time()
    one = await join(url)
    hand: list[dict[str, Any]] = [
        {"_id": "", "at": now},
        {"_id": "x7", "at": now},
        {"_id": 7, "at": now},
        {"_id": "s\0", "at": now},
        {"_id": "sada", "at": "soon"},
        {"_id": "sbob", "at": 1e300},
        {"_id": "scid", "at": [now]},
        {"_id": "sdan"},
        {"_id": "seve", "at": now},
    ]
    rows.insert_many(hand)
    await one.learns(subject("eve", now))
    two = await join(url)
    assert set(one.revocations) == set(two.revocations) == {subject("eve", now)}


async def test_what_cannot_be_read_at_all_is_named(join: Join, url: str, rows: Rows) -> None:
    row = encode({"_id": "sXY", "at": time.time()}).replace(b"sXY", b"s\xff\xff")
    rows.insert_one(RawBSONDocument(row))
    with pytest.raises(StoreUnusable, match="drop it to start with none"):
        await join(url)


async def test_a_list_of_another_hand_is_bounded(
    join: Join, url: str, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bounds, "MAX_LEARNT", 5)
    now = time.time()
    rows.insert_many([{"_id": f"s{number}", "at": now} for number in range(8)])
    one = await join(url)
    assert len(one.revocations) == 5
    assert "revocation of another node not taken in" in caplog.text
    rows.insert_one({"_id": "snew", "at": now})
    rows.update_one({"_id": "s0"}, {"$set": {"at": now + 1}})
    await one.learns(subject("0", now + 1))
    assert len(one.revocations) == 5


async def test_a_mistake_of_ours_is_said_and_does_not_end_listening(
    join: Join, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await join(url), await join(url)
    await check_a_mistake_of_ours(one, two, monkeypatch, caplog)
