"""What the server asks of MongoDB, as the driver sends it: concerns that no address weakens, and where reads go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from server.access.mongo_list import open_mongo_list
from server.access.revocations import Kind, Revocation, Revocations
from server.bus.mongo import MongoBus
from server.stores import mongo_client
from server.stores.errors import StoreUnusable
from server.stores.mongo import MongoStore
from server.stores.mongo_appender import Appender
from server.stores.mongo_client import MongoOptions, connect
from server.stores.mongo_database import Moment, Row
from server.stores.mongo_demands import demand_durability, demand_guarantees
from server.stores.mongo_ends import Ends
from server.stores.mongo_feed import Feed
from sync.rooms.ports import Append, Draft
from tests.contracts.store.logs import fill
from tests.harness.mongod import ReplicaSet

WEAK = "&w=1&journal=false&wtimeoutMS=1&readConcernLevel=local&readPreference=secondary&retryWrites=false"
WRITES = {"insert", "update", "delete", "findAndModify", "commitTransaction", "abortTransaction"}
READS = {"find", "aggregate"}


class Sent(CommandListener):
    """Every command that the driver sent, and to which member."""

    def __init__(self) -> None:
        self.commands: list[tuple[Row, str]] = []

    def started(self, event: CommandStartedEvent) -> None:
        host, port = event.connection_id
        self.commands.append((dict(event.command), f"{host}:{port}"))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    def of(self, names: set[str]) -> list[tuple[str, Row, str]]:
        return [(next(iter(each)), each, member) for each, member in self.commands if next(iter(each)) in names]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What every client sends that is made from now on."""
    listener = Sent()
    monkeypatch.setattr(mongo_client, "AsyncMongoClient", partial(AsyncMongoClient, event_listeners=[listener]))
    return listener


async def use(url: str, options: MongoOptions) -> None:
    """Do everything that a node does with its store."""
    mongo = await connect(url, options)
    store, bus = MongoStore(mongo), MongoBus(mongo)
    await fill(store, "a", 3)
    # Several blocks: a transaction.
    await store.append([Append("large", 0, [Draft(bytes(8 << 20))] * 2, "L")])
    await store.snapshot("a", 2, b"state")
    await store.compact("a", 1)
    await store.load("a")
    await store.read("a", 1, 10)
    await store.heads(["a"])
    await store.changes(0, 10)
    await store.check()
    bus.start()
    while not bus.open:
        await store.check()
    await bus.close()
    revocations = await open_mongo_list(mongo, Revocations(1, time.time, lambda call: None))
    await revocations.spread(Revocation(Kind.SUBJECT, "ada", time.time()))
    await revocations.close()
    await store.close()


async def test_an_address_cannot_weaken_what_an_acknowledgement_means(url: str, sent: Sent) -> None:
    await use(url + WEAK, MongoOptions())
    seen = set()
    for name, command, _ in sent.of(WRITES):
        within = command.get("autocommit") is False and name not in ("commitTransaction", "abortTransaction")
        concern = command.get("writeConcern", {})
        seen.add((name, within))
        # Of a transaction, the commit alone has one.
        assert (concern.get("w"), concern.get("j")) == ((None, None) if within else ("majority", True)), command
        assert within or concern["wtimeout"] > 1, "nobody gives up after a millisecond"
        many = name == "delete" and command["deletes"][0]["limit"] == 0
        assert many or "txnNumber" in command, "it is sent again when the answer is lost"
    assert seen >= {(name, False) for name in WRITES - {"abortTransaction"}} - {("findAndModify", False)}
    assert {("insert", True), ("findAndModify", True), ("findAndModify", False)} <= seen
    assert ("update", "revocations") in {(name, command[name]) for name, command, _ in sent.of(WRITES) if name in command}
    levels = set()
    for name, command, _ in sent.of(READS):
        level = command.get("readConcern", {}).get("level")
        within = command.get("autocommit") is False
        levels.add((name, within, level))
        assert level == (None if within and not command.get("startTransaction") else "snapshot" if within else "majority")
        assert command.get("$readPreference", {"mode": "primary"})["mode"] == "primary"
    assert {("find", False, "majority"), ("aggregate", False, "majority")} <= levels
    begun = [command for command, _ in sent.commands if command.get("startTransaction")]
    assert begun
    assert {command["readConcern"]["level"] for command in begun} == {"snapshot"}


@pytest.mark.parametrize("drafts", [[Draft(b"x")], [Draft(bytes(8 << 20))] * 2], ids=["one block", "several blocks"])
async def test_intents_are_read_causally_after_the_latest_append_whichever_ended_last(
    url: str, sent: Sent, drafts: list[Draft]
) -> None:
    mongo = await connect(url, MongoOptions())
    feed, appender = Feed(mongo), Appender(mongo, Ends(mongo))
    finished: list[tuple[str, Moment]] = []
    for _ in range(2):
        intent = feed.new_intent()
        sent.commands.clear()
        _, written = await appender.append([Append(intent, 0, drafts, "L")], intent)
        assert written is not None
        finished.append((intent, written))
        (count,) = [command for _, command, _ in sent.of({"find"}) if command["find"] == "meta"]
        assert count["readConcern"]["afterClusterTime"] <= written.operation_time
        inserts = [command for _, command, _ in sent.of({"insert"})]
        assert {bytes(command["lsid"]["id"]) for command in inserts} == {bytes(count["lsid"]["id"])}, "one causal session"
    earlier, later = finished
    assert earlier[1].operation_time < later[1].operation_time
    feed.finished(*later)
    feed.finished(*earlier)
    sent.commands.clear()
    await feed.close()
    reads = [command for _, command, _ in sent.of({"find"}) if command["find"] == "log"]
    assert len(reads) >= 2, "intents and blocks"
    for command in reads:
        assert command["readConcern"]["level"] == "majority"
        assert command["readConcern"]["afterClusterTime"] >= later[1].operation_time
    await mongo.close()


@pytest.mark.parametrize("reads", ["primary", "secondary"])
async def test_listings_may_be_read_from_other_members_and_nothing_else_is(pair: ReplicaSet, sent: Sent, reads: str) -> None:
    primary = pair.primary().address
    (other,) = (member.address for member in pair.members if member.address != primary)
    await use(pair.url(f"reads_{reads}"), MongoOptions(lagging_reads=reads))
    listings = [
        (command, member)
        for name, command, member in sent.of(READS)
        if command.get(name) == "documents" and "limit" in command and "number" in command["filter"]
    ]
    assert [member for _, member in listings] == [other if reads == "secondary" else primary]
    assert all(command["readConcern"]["level"] == "majority" for command, _ in listings), "what was read is never undone"
    elsewhere = [each for each in sent.of(READS | WRITES) if each[2] != primary]
    assert len(elsewhere) == (reads == "secondary")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Two members."""
    with ReplicaSet(tmp_path_factory.mktemp("pair"), members=2) as replica_set:
        yield replica_set


async def test_the_defaults_of_the_pool(url: str) -> None:
    mongo = await connect(url, MongoOptions())
    options: Any = mongo.client.options
    pool = options.pool_options
    assert (pool.max_pool_size, pool.min_pool_size, pool.wait_queue_timeout) == (50, 10, 5.0)
    assert options.server_selection_timeout == 5.0
    await mongo.close()


@pytest.mark.parametrize("hello", [{"setName": "rs0"}, {"msg": "isdbgrid"}])
def test_a_mongodb_before_4_4_is_refused(hello: Row) -> None:
    demand_guarantees({**hello, "maxWireVersion": 9}, "mongodb://h/db")
    with pytest.raises(StoreUnusable, match=r"is a MongoDB older than 4\.4; use a newer one"):
        demand_guarantees({**hello, "maxWireVersion": 8}, "mongodb://h/db")


async def test_a_start_asks_how_the_log_is_kept(url: str, sent: Sent) -> None:
    await (await connect(url, MongoOptions())).close()
    assert [command["collStats"] for _, command, _ in sent.of({"collStats"})] == ["log"]


def test_every_shard_keeps_what_it_is_given() -> None:
    demand_durability({"shards": {"a": {"wiredTiger": {}}, "b": {"wiredTiger": {}}}}, "mongodb://h/db")
    with pytest.raises(StoreUnusable, match="another storage engine"):
        demand_durability({"shards": {"a": {"wiredTiger": {}}, "b": {"inMemory": {}}}}, "mongodb://h/db")
