"""The Redis bus: the contract on each redis-server there is, and a Redis that comes and goes."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from server.bus import redis as module
from server.bus.errors import BusUnusable
from server.bus.news import MalformedNews, decode, encode
from server.bus.redis import RedisBus, open_redis
from server.bus.redis_address import ANSWER_SECONDS
from server.bus.seal import Seal
from sync.rooms.ports import Bus, Draft, NewEntries, NewPresence, News, PresenceWanted
from tests.contracts.bus import ONE, BusContract, Connect, Ear
from tests.harness.redis_server import NEWEST, OLD, RedisCluster, RedisServer, redis_program
from tests.harness.stubborn import Stubborn, lose_the_cancellation

PATIENCE = 15.0
KEY = "that of the store"


@pytest.fixture(scope="module", params=[OLD, NEWEST, "cluster"])
def redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """From before there were sharded channels, with them, and in a cluster, where they are not used."""
    folder = tmp_path_factory.mktemp("redis")
    if request.param == "cluster":
        with RedisCluster(folder) as server:
            yield server
    else:
        with RedisServer(folder, redis_program(request.param)) as server:
            yield server


class TestRedisContract(BusContract):
    @pytest.fixture
    def connect(self, redis: RedisServer) -> Connect:
        async def connect() -> RedisBus:
            end = await open_redis(redis.url, key=KEY)
            # An end that comes in asks who is here; that is no news of the test's.
            await healthy(end)
            return end

        return connect

    async def settled(self, ends: list[Bus]) -> None:
        async with asyncio.timeout(PATIENCE):
            for end in ends:
                assert isinstance(end, RedisBus)
                await end.settled()
                await healthy(end)


@pytest.fixture
async def ends(redis: RedisServer) -> AsyncIterator[tuple[RedisBus, RedisBus]]:
    ends = await open_redis(redis.url, key=KEY), await open_redis(redis.url, key=KEY)
    for end in ends:
        await healthy(end)
    yield ends
    for end in ends:
        await end.close()


async def healthy(end: RedisBus, value: bool = True) -> None:
    async with asyncio.timeout(PATIENCE):
        while end.healthy is not value:
            await asyncio.sleep(0.01)


async def published(end: RedisBus, ear: Ear) -> None:
    """Publish until it is heard."""
    count = len(ear.heard)
    async with asyncio.timeout(PATIENCE):
        while not any(isinstance(news, NewEntries) for _, news in ear.heard[count:]):
            end.publish("a", NewEntries(0, ONE, "L"))
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["killed", "stopped"])
async def test_redis_goes_and_comes_back(redis: RedisServer, ends: tuple[RedisBus, RedisBus], way: str) -> None:
    ear = Ear()
    ends[1].subscribe("a", ear)
    await published(ends[0], ear)
    redis.kill() if way == "killed" else redis.signal(signal.SIGSTOP)
    await healthy(ends[1], False)
    begin = asyncio.get_running_loop().time()
    for _ in range(10_000):
        ends[0].publish("a", NewEntries(0, ONE, "L"))
    assert asyncio.get_running_loop().time() - begin < 5, "publishing waits for nobody"
    ends[1].subscribe("b", ear)
    redis.start() if way == "killed" else redis.signal(signal.SIGCONT)
    for end in ends:
        await healthy(end)
    await published(ends[0], ear)
    assert ("a", PresenceWanted()) in ear.heard, "who is where may have changed meanwhile"


async def test_channels_are_sharded_where_that_reaches_every_node(redis: RedisServer, ends: tuple[RedisBus, RedisBus]) -> None:
    client = Redis.from_url(redis.url)
    ends[0].subscribe("a", Ear())
    await ends[0].settled()
    info = await client.info("server")
    plain = b"ebbtide:a" in await client.pubsub_channels()
    await client.aclose()
    assert plain == (info["redis_version"].startswith("6.") or info["redis_mode"] == "cluster")


async def test_a_listener_that_fails_is_said_and_the_others_go_on(
    redis: RedisServer, ends: tuple[RedisBus, RedisBus], caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()

    def fails(document: str, news: News) -> None:
        ends[1].unsubscribe("bad", fails)
        raise RuntimeError("a mistake of ours")

    ends[1].subscribe("bad", fails)
    ends[1].subscribe("a", ear)
    await ends[1].settled()
    ends[0].publish("bad", NewEntries(0, ONE, "L"))
    await healthy(ends[1], False)
    await published(ends[0], ear)
    assert "a mistake of ours" in caplog.text


async def test_what_fails_while_it_is_closed_does_not_begin_again(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: RedisBus, channels: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionError("on the way out")

    monkeypatch.setattr(RedisBus, "_watch", fails)
    end = await open_redis(redis.url, key=KEY)
    await healthy(end)
    async with asyncio.timeout(PATIENCE):
        await end.close()


@pytest.mark.parametrize("under_way", ["subscribe", "publish"])
async def test_closing_ends_although_the_driver_loses_cancellations(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, under_way: str
) -> None:
    stubborn = Stubborn()
    monkeypatch.setattr(module, "answered", stubborn.answered)
    end = await open_redis(redis.url, key=KEY)
    await healthy(end)
    async with asyncio.timeout(PATIENCE):
        await end.settled()
    stubborn.gate.clear()
    if under_way == "subscribe":
        end.subscribe("a", Ear())
    else:
        end.publish("a", NewEntries(0, ONE, "L"))
    await lose_the_cancellation(stubborn, end.close(), PATIENCE)


async def test_what_is_not_news_is_ignored(redis: RedisServer, ends: tuple[RedisBus, RedisBus]) -> None:
    ear = Ear()
    ends[1].subscribe("a", ear)
    await published(ends[0], ear)
    count = len(ear.heard)
    client = Redis.from_url(redis.url)
    nonsense = [b"", b"\xc1", b"\x91\x01", b"nonsense", b"x" * 8 + encode(NewPresence(b"x"))[:-1]]
    good = b"x" * 8 + encode(NewPresence(b"x"))
    forged = [good, Seal("another store's").put_on(b"ebbtide:a", good), Seal(KEY).put_on(b"ebbtide:b", good)]
    for data in [*nonsense, *(Seal(KEY).put_on(b"ebbtide:a", each) for each in nonsense), *forged]:
        for command in ("PUBLISH", "SPUBLISH") if ends[0]._sharded else ("PUBLISH",):
            await client.execute_command(command, b"ebbtide:a", data)  # type: ignore[no-untyped-call]
    await client.aclose()
    await published(ends[0], ear)
    assert {type(news) for _, news in ear.heard[count:]} == {NewEntries}
    assert ends[1].refused >= 13


async def test_deployments_with_other_prefixes_hear_nothing_of_each_other(redis: RedisServer) -> None:
    prefixes = ("ebbtide", "other", "ebbtide")
    ends = [await open_redis(redis.url, key=KEY, prefix=prefix) for prefix in prefixes]
    ears = [Ear() for _ in ends]
    for end, ear in zip(ends, ears, strict=True):
        end.subscribe("a", ear)
        await healthy(end)
        await end.settled()
    await published(ends[0], ears[2])
    assert ears[1].heard == [] or {news for _, news in ears[1].heard} == {PresenceWanted()}
    for end in ends:
        await end.close()


async def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="right") as server:
        for url in (server.url.replace("right", "wrong"), server.url.replace(":right@", "")):
            with pytest.raises(BusUnusable, match="refuses the user or the password") as raised:
                await open_redis(url, key=KEY)
            assert "wrong" not in raised.value.reason.partition(":")[0]
        with pytest.raises(BusUnusable, match=r"/9999: refuses what --bus asks for \(.*out of range\); correct it"):
            await open_redis(f"{server.url}/9999", key=KEY)
        bus = await open_redis(server.url, key=KEY)
        await healthy(bus)
        await bus.close()


async def test_a_redis_that_was_never_there_is_waited_for(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    ends = await open_redis(server.url, key=KEY), await open_redis(server.url, key=KEY)
    ear = Ear()
    ends[1].subscribe("a", ear)
    assert not ends[0].healthy
    with server:
        for end in ends:
            await healthy(end)
        await published(ends[0], ear)
        for end in ends:
            await end.close()


def test_every_cut_of_an_encoding_is_named() -> None:
    whole = encode(NewEntries(3, [Draft(b"u", "a", "d")], "L"))
    assert decode(whole) == NewEntries(3, [Draft(b"u", "a", "d")], "L")
    for end in range(len(whole)):
        with pytest.raises(MalformedNews):
            decode(whole[:end])


async def test_a_redis_full_of_clients_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(tmp_path, settings=["--maxclients", "8"]) as server:
        others: list[socket.socket] = []
        welcome = True
        while welcome:
            others.append(other := socket.create_connection(("127.0.0.1", server.port)))
            other.send(b"PING\r\n")
            welcome = other.recv(100) == b"+PONG\r\n"
        ends = await open_redis(server.url, key=KEY), await open_redis(server.url, key=KEY)
        assert {record.__dict__["reason"] for record in caplog.records} == {"max number of clients reached"}
        for other in others:
            other.close()
        ear = Ear()
        ends[1].subscribe("a", ear)
        for end in ends:
            await healthy(end)
        await published(ends[0], ear)
        for end in ends:
            await end.close()


async def test_a_redis_full_of_data_still_carries_news(tmp_path: Path) -> None:
    with RedisServer(tmp_path, settings=["--maxmemory", "1", "--maxmemory-policy", "noeviction"]) as server:
        ends = await open_redis(server.url, key=KEY), await open_redis(server.url, key=KEY)
        ear = Ear()
        ends[1].subscribe("a", ear)
        for end in ends:
            await healthy(end)
        await published(ends[0], ear)
        for end in ends:
            await end.close()


async def test_a_slow_redis_makes_nobody_wait_and_loses_nothing(redis: RedisServer, ends: tuple[RedisBus, RedisBus]) -> None:
    ear = Ear()
    ends[1].subscribe("a", ear)
    await published(ends[0], ear)
    client = Redis.from_url(redis.url)
    await client.client_pause(round(1000 * ANSWER_SECONDS / 2), all=True)
    begin, count = asyncio.get_running_loop().time(), len(ear.heard)
    for number in range(100):
        ends[0].publish("a", NewEntries(100 + number, ONE, "L"))
    assert asyncio.get_running_loop().time() - begin < ANSWER_SECONDS / 4, "publishing waits for nobody"
    await ear.until(count + 100)
    told = [news.after for _, news in ear.heard if isinstance(news, NewEntries) and news.after >= 100]
    assert told == list(range(100, 200))
    assert [end.healthy for end in ends] == [True, True]
    await client.aclose()


async def test_a_redis_that_takes_no_news_is_not_available(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with RedisServer(tmp_path) as server:
        ends = await open_redis(server.url, key=KEY), await open_redis(server.url, key=KEY)
        ear = Ear()
        ends[1].subscribe("a", ear)
        await published(ends[0], ear)
        client = Redis.from_url(server.url)
        await client.execute_command("ACL", "SETUSER", "default", "-publish", "-spublish")  # type: ignore[no-untyped-call]
        for end in ends:
            async with asyncio.timeout(PATIENCE):
                while end.healthy:
                    end.publish("a", NewPresence(b"SECRET"))
                    await asyncio.sleep(0.01)
        with pytest.raises(BusUnusable, match=r"refuses the user or the password .*no permissions"):
            await open_redis(server.url, key=KEY)
        # It connects again and again meanwhile, which is no reason to say that Redis is there.
        attempts = [0, 0]
        for index, end in enumerate(ends):
            went = end._connection._went

            def counted(error: BaseException, index: int = index, went: Callable[[BaseException], None] = went) -> None:
                attempts[index] += 1
                went(error)

            end._connection._went = counted
        caplog.clear()
        async with asyncio.timeout(PATIENCE):
            while min(attempts) < 2:
                await asyncio.sleep(0.05)
        assert not [record for record in caplog.records if record.message == "redis available"]
        await client.execute_command("ACL", "SETUSER", "default", "+publish", "+spublish")  # type: ignore[no-untyped-call]
        await client.aclose()
        for end in ends:
            await healthy(end)
        await published(ends[0], ear)
        for end in ends:
            await end.close()


async def test_what_redis_refuses_is_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(tmp_path) as server:
        end = await open_redis(server.url, key=KEY)
        client = Redis.from_url(server.url)
        await client.execute_command("ACL", "SETUSER", "default", "-publish", "-spublish")  # type: ignore[no-untyped-call]
        end.publish("a", NewEntries(0, [Draft(b"SECRET", "ada", "phone")], "L"))
        await healthy(end, False)
        assert "permissions" in caplog.text + str([record.__dict__ for record in caplog.records])
        assert "SECRET" not in str([record.__dict__ for record in caplog.records])
        await client.aclose()
        await end.close()
