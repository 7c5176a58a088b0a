"""News by MongoDB's change streams: the contract, and streams that are cut off in every way."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import ConnectionFailure
from pymongo.read_concern import ReadConcern

from server.bus.mongo import CLOSE_SECONDS, UNTOLD, MongoBus
from server.stores.mongo import MongoStore
from server.stores.mongo_blocks import block_row
from server.stores.mongo_client import MongoOptions, connect
from server.stores.mongo_database import Mongo, Row
from sync.rooms.ports import Append, Appended, Bus, Draft, NewEntries, NewPresence, News
from tests.contracts.bus import Connect, Ear, EntriesContract
from tests.harness.mongod import ReplicaSet

PATIENCE = 30.0


class AppendingBus(MongoBus):
    """An end whose node appends what it is told to publish."""

    def __init__(self, mongo: Mongo) -> None:
        super().__init__(mongo)
        self._log = mongo.log
        self._node = mongo.node
        self._appends: list[asyncio.Task[object]] = []

    def publish(self, document: str, news: News) -> None:
        assert isinstance(news, NewEntries)
        row = block_row(Append(document, news.after, news.drafts, news.lineage), news.drafts, news.after + 1, 0, self._node)
        before = self._appends[-1:]

        async def append() -> None:
            await asyncio.gather(*before)
            await self._log.insert_one(row)

        self._appends.append(asyncio.get_running_loop().create_task(append()))

    async def close(self) -> None:
        await asyncio.gather(*self._appends)
        await super().close()


async def is_open(bus: MongoBus, streams: int = 1) -> None:
    """Return when the bus has a stream open, at least its `streams`th."""
    async with asyncio.timeout(PATIENCE):
        while not bus.open or bus.opened < streams:
            await asyncio.sleep(0.01)


class TestChangeStreamContract(EntriesContract):
    @pytest.fixture(params=["pymongo", "motor"])
    async def connect(self, request: pytest.FixtureRequest, url: str) -> AsyncIterator[Connect]:
        open_: list[Mongo] = []

        async def end() -> Bus:
            mongo = await connect(url, MongoOptions(driver=request.param))
            open_.append(mongo)
            bus = AppendingBus(mongo)
            bus.start()
            await is_open(bus)
            return bus

        yield end
        for mongo in open_:
            await mongo.close()


class Node:
    """A store, and the news of what others append."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self.store = MongoStore(mongo)
        self.bus = MongoBus(mongo)
        self.ear = Ear()

    async def listen(self, *documents: str) -> None:
        for document in documents:
            self.bus.subscribe(document, self.ear)
        self.bus.start()
        await is_open(self.bus)

    async def hears(self, *told: tuple[str, News]) -> None:
        """Return when exactly this was heard."""
        assert await self.ear.until(len(told)) == list(told)

    async def close(self) -> None:
        await self.bus.close()
        await self.store.close()


async def hasty_node(url: str) -> Node:
    """One that soon sees that its server does not answer, and that it is back."""
    return Node(await connect(f"{url}&heartbeatFrequencyMS=500", MongoOptions(timeout=1.0)))


@pytest.fixture
async def nodes(url: str) -> AsyncIterator[list[Node]]:
    nodes = [await hasty_node(url) for _ in range(2)]
    yield nodes
    for node in nodes:
        await node.close()


async def append(node: Node, document: str, expected: int, *updates: bytes) -> None:
    drafts = [Draft(update) for update in updates]
    (answer,) = await node.store.append([Append(document, expected, drafts, "L")])
    assert answer == Appended(expected + len(updates))


def entries(after: int, *updates: bytes) -> NewEntries:
    return NewEntries(after, [Draft(update) for update in updates], "L")


async def test_neither_intents_nor_own_appends_nor_other_documents_are_sent(nodes: list[Node]) -> None:
    sent: list[Row] = []
    one, two = nodes
    await two.listen("a")
    read = two.bus._read

    class Watching:
        """The stream, with a note of each event that MongoDB sent."""

        def __init__(self, stream: object) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> object:
            return getattr(self._stream, name)

        async def try_next(self) -> Row | None:
            event: Row | None = await self._stream.try_next()  # type: ignore[attr-defined]
            sent.extend([event] if event else [])
            return event

    two.bus._read = lambda stream, untold: read(Watching(stream), untold)  # type: ignore[method-assign]
    await two.bus.stop()
    await two.listen("a")
    await append(two, "a", 0, b"own")
    await append(one, "a", 1, b"other")
    await append(one, "b", 0, b"not open here")
    await append(one, "a", 2, b"last")
    await two.hears(("a", entries(1, b"other")), ("a", entries(2, b"last")))
    assert [(event["key"]["d"], event["key"]["s"]) for event in sent] == [("a", 2), ("b", 1), ("a", 3)]


async def test_an_append_of_several_blocks_is_announced(nodes: list[Node]) -> None:
    one, two = nodes
    await two.listen("a")
    drafts = [Draft(bytes([number]) * (6 << 20)) for number in range(3)]
    assert await one.store.append([Append("a", 0, drafts, "L")]) == [Appended(3)]
    await two.hears(("a", entries(2)), ("a", entries(3)))


async def test_presence_is_not_carried(nodes: list[Node]) -> None:
    one, two = nodes
    await two.listen("a")
    await one.listen("a")
    one.bus.publish("a", NewPresence(b"x"))
    await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))


async def test_a_block_under_the_floor_is_a_question_and_not_an_answer(nodes: list[Node]) -> None:
    """A node that slept may write where entries were compacted, and takes it back: nobody may believe it meanwhile."""
    one, two = nodes
    await append(one, "a", 0, b"1", b"2", b"3")
    await append(one, "a", 3, b"4", b"5")
    await one.store.snapshot("a", 5, b"state")
    assert await one.store.compact("a", 5) == 5
    await two.listen("a")
    late = block_row(Append("a", 3, [Draft(b"late")], "L"), [Draft(b"late")], 4, 0, "sleeper")
    await one.mongo.log.insert_one(late)
    await append(one, "a", 5, b"6")
    await two.hears(("a", entries(4)), ("a", entries(5, b"6")))


@asynccontextmanager
async def streams_fail(mongo: Mongo, **how: object) -> AsyncIterator[int]:
    """Meanwhile every change stream is ended and none can be opened; all else goes on. How often that happened before."""
    failing = {"configureFailPoint": "failCommand", "data": {"failCommands": ["aggregate", "getMore"], **how}}
    before = await mongo.client.admin.command(failing | {"mode": "alwaysOn"})
    try:
        yield before["count"]
    finally:
        await mongo.client.admin.command(failing | {"mode": "off"})


async def is_cut_off(bus: MongoBus) -> None:
    async with asyncio.timeout(PATIENCE):
        while bus.open:
            await asyncio.sleep(0.01)


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the bus warned of; the drivers say things of their own."""
    return [record for record in caplog.records if record.name == "server.bus.mongo" and record.levelno >= logging.WARNING]


CUT_OFF = [{"closeConnection": True}, {"errorCode": 262, "errorLabels": ["ResumableChangeStreamError"]}, {"errorCode": 43}]
"""A connection that breaks, what MongoDB says may be resumed, a cursor that is gone."""


@pytest.mark.parametrize("how", CUT_OFF, ids=["connection", "label", "cursor"])
async def test_a_stream_goes_on_where_it_was_cut_off(nodes: list[Node], how: dict[str, object]) -> None:
    one, two = nodes
    await two.listen("a")
    await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))
    async with streams_fail(one.mongo, **how):
        await is_cut_off(two.bus)
        await append(one, "a", 1, b"2")
        await append(one, "a", 2, b"3")
    await two.hears(("a", entries(0, b"1")), ("a", entries(1, b"2")), ("a", entries(2, b"3")))


async def test_a_stream_without_news_goes_on_too(nodes: list[Node]) -> None:
    one, two = nodes
    await two.listen("a")
    async with streams_fail(one.mongo, closeConnection=True):
        await is_cut_off(two.bus)
        await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))


@pytest.mark.parametrize("code", [286, 280, 260], ids=["history lost", "fatal", "token"])
async def test_lost_history_is_said_and_left_to_the_poll(
    nodes: list[Node], caplog: pytest.LogCaptureFixture, code: int
) -> None:
    one, two = nodes
    await two.listen("a")
    async with streams_fail(one.mongo, errorCode=code):
        await is_cut_off(two.bus)
        await append(one, "a", 0, b"never told")
    await is_open(two.bus, 2)
    await append(one, "a", 1, b"2")
    await two.hears(("a", entries(1, b"2")))
    assert [(record.message, record.__dict__["resumes"]) for record in warnings(caplog)] == [
        ("change stream cut off, nodes converge by asking the store", False)
    ]


async def test_a_right_that_is_missing_is_said_once(nodes: list[Node], caplog: pytest.LogCaptureFixture) -> None:
    one, two = nodes
    async with streams_fail(one.mongo, errorCode=13) as before:
        two.bus.subscribe("a", two.ear)
        two.bus.start()
        tried = {"waitForFailPoint": "failCommand", "timesEntered": before + 3, "maxTimeMS": round(1000 * PATIENCE)}
        await one.mongo.client.admin.command(tried)
        assert len(warnings(caplog)) == 1
        assert not two.bus.open
    await is_open(two.bus)
    await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))


async def test_a_listener_that_fails_is_said_and_the_others_go_on(nodes: list[Node], caplog: pytest.LogCaptureFixture) -> None:
    one, two = nodes

    def fails(document: str, news: News) -> None:
        raise RuntimeError("a mistake of ours")

    two.bus.subscribe("bad", fails)
    await two.listen("a")
    await append(one, "bad", 0, b"1")
    await is_open(two.bus, 2)
    two.bus.unsubscribe("bad", fails)
    await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))
    assert "a mistake of ours" in caplog.text


async def test_a_log_that_was_removed_is_waited_for(nodes: list[Node]) -> None:
    one, two = nodes
    await two.listen("a")
    await one.mongo.log.drop()
    await is_open(two.bus, 2)
    await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))


@pytest.mark.parametrize("way", ["killed", "stopped"])
async def test_mongodb_goes_and_comes_back(mortal: ReplicaSet, caplog: pytest.LogCaptureFixture, way: str) -> None:
    one, two = nodes = [await hasty_node(mortal.url("db")) for _ in range(2)]
    await two.listen("a")
    (member,) = mortal.members
    member.kill() if way == "killed" else member.signal(signal.SIGSTOP)
    await is_cut_off(two.bus)
    await asyncio.to_thread(member.start) if way == "killed" else member.signal(signal.SIGCONT)
    await asyncio.to_thread(mortal.primary)
    await is_open(two.bus, 2)
    await append(one, "a", 0, b"1")
    await two.hears(("a", entries(0, b"1")))
    assert len(warnings(caplog)) == 1, "one line an outage"
    for node in nodes:
        await node.close()


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_closing_does_not_wait_for_a_mongodb_that_does_not_answer(url: str, replica_set: ReplicaSet, driver: str) -> None:
    node = Node(await connect(url, MongoOptions(driver=driver)))
    await node.listen("a")
    connection = node.bus._connection
    assert connection is not None
    (member,) = replica_set.members
    member.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(CLOSE_SECONDS + 2):
            await node.bus.close()
            await node.bus.close()
    finally:
        member.signal(signal.SIGCONT)
    await asyncio.wait_for(connection.close(), PATIENCE)
    await node.store.close()


async def test_what_fails_while_it_is_stopped_does_not_begin_again(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    _, two = nodes
    await two.listen("a")
    connection = two.bus._connection
    assert connection is not None

    async def fails(_: object) -> None:
        raise ConnectionFailure("on the way out")

    monkeypatch.setattr(AsyncChangeStream, "close", fails)
    await two.bus.stop()
    assert not connection.kept
    assert (two.bus.open, two.bus.opened) == (False, 1)


async def test_a_node_that_does_not_listen_costs_nothing(nodes: list[Node]) -> None:
    one, two = nodes
    name = one.mongo.log.database.name

    async def streams() -> int:
        """Open change streams of all nodes, as the server counts them."""
        admin = one.mongo.client.get_database("admin", read_concern=ReadConcern("local"))
        cursors = await admin.aggregate([{"$currentOp": {"idleCursors": True}}, {"$match": {"cursor.tailable": True}}])
        return len([each async for each in cursors if each["ns"].startswith(name)])

    assert await streams() == 0
    await two.listen("a")
    assert await streams() == 1
    await two.listen(*[f"document {number}" for number in range(5000)])
    assert await streams() == 1, "one, whatever the number of documents"
    await two.bus.stop()
    await two.bus.stop()
    async with asyncio.timeout(PATIENCE):
        while await streams():
            await asyncio.sleep(0.05)
    await append(one, "a", 0, b"not told")
    await two.listen("a")
    await append(one, "a", 1, b"2")
    await two.hears(("a", entries(1, b"2")))


async def test_more_than_can_wait_is_told_in_order(nodes: list[Node]) -> None:
    one, two = nodes
    await two.listen("a")
    count = 5 * UNTOLD
    for number in range(count):
        await append(one, "a", number, b"%d" % number)
    await two.hears(*[("a", entries(number, b"%d" % number)) for number in range(count)])
