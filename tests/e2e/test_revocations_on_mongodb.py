"""Revoked on one node of a MongoDB: open sockets on the others end, and no restart forgets it, Redis or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.kit import ENVIRON, shared, token
from tests.e2e.revoking import close_code, opened, push, refusal_of, revoke
from tests.harness.mongod import ReplicaSet
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

REFUSED = (401, "token-revoked")


@pytest.fixture
def replica_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path / "mongo") as replica_set:
        yield replica_set


def node(folder: Path, replica_set: ReplicaSet, *flags: str) -> ServerProcess:
    store = ("--store", replica_set.url("ebbtide"), "--store-timeout", "1")
    return ServerProcess(folder, *store, *flags, open_to_all=False, environ=ENVIRON)


async def ends(http: aiohttp.ClientSession, asked: ServerProcess, *others: ServerProcess, subject: str) -> str:
    """Revoke a subject who is in on every node, and return the token that is good nowhere any more."""
    bearer = token(subject)
    sockets = [await opened(http, each, bearer) for each in (asked, *others)]
    assert (await revoke(http, asked, {"subject": subject}))[0] == 200
    assert [await close_code(socket) for socket in sockets] == [4401] * len(sockets)
    for each in (asked, *others):
        assert await push(http, each, bearer) == REFUSED
        assert await refusal_of(http, each, bearer) == 4401
    return bearer


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_two_nodes_with_nothing_but_mongodb(
    http: aiohttp.ClientSession, tmp_path: Path, replica_set: ReplicaSet, driver: str
) -> None:
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(node(tmp_path / name, replica_set, "--store-driver", driver)) for name in ("one", "two")
        )
        for each in (one, two):
            await shared(http, each, 1)
        ada = await ends(http, one, two, subject="ada")
        # MongoDB is away, and the asked node goes ahead alone.
        bob = token("bob")
        there = await opened(http, two, bob)
        (member,) = replica_set.members
        member.kill()
        for each in (one, two):
            await shared(http, each, 0)
        status, answer = await revoke(http, one, {"subject": "bob"})
        assert (status, answer["code"]) == (503, "revocation-not-spread")
        assert await refusal_of(http, one, bob) == 4401
        assert not there.closed, "it cannot know"
        await asyncio.to_thread(member.start)
        await asyncio.to_thread(replica_set.primary)
        assert await close_code(there) == 4401
        for each in (one, two):
            await shared(http, each, 1)
        cid = await ends(http, two, one, subject="cid")
        # All nodes at once: none is left to tell the others.
        for each in (one, two):
            each.kill()
        for each in (one, two):
            each.start()
            for bearer in (ada, bob, cid):
                assert await push(http, each, bearer) == REFUSED
            assert await push(http, each, token("dora")) == (200, "")
            assert each.stop() == 0
            assert "Traceback" not in each.errors


async def test_workers_reach_each_other_and_remember(
    http: aiohttp.ClientSession, tmp_path: Path, replica_set: ReplicaSet
) -> None:
    with node(tmp_path / "data", replica_set, "--workers", "2") as server:
        ada = token("ada")
        # Each connection is one of the kernel's choice: so many that every worker has some.
        sockets = [await opened(http, server, ada) for _ in range(16)]
        assert (await revoke(http, server, {"subject": "ada"}))[0] == 200
        assert [await close_code(socket) for socket in sockets] == [4401] * len(sockets)
        for _ in range(16):
            assert await push(http, server, ada) == REFUSED
        assert server.stop() == 0
        server.start()
        for _ in range(16):
            assert await push(http, server, ada) == REFUSED
        assert "Traceback" not in server.errors


@pytest.mark.parametrize("away", ["redis", "mongodb"])
async def test_with_redis_beside_it_either_is_enough(
    http: aiohttp.ClientSession, tmp_path: Path, replica_set: ReplicaSet, away: str
) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path / "redis"))
        flags: tuple[Any, ...] = ("--bus", redis.url)
        one, two = (stack.enter_context(node(tmp_path / name, replica_set, *flags)) for name in ("one", "two"))
        ada, bob = token("ada"), token("bob")
        sockets = [await opened(http, each, ada) for each in (one, two)]
        others = [await opened(http, each, bob) for each in (one, two)]
        (member,) = replica_set.members
        (redis if away == "redis" else member).kill()
        assert (await revoke(http, one, {"subject": "ada"}))[0] == 200
        assert [await close_code(socket) for socket in sockets] == [4401, 4401]
        # With neither, the answer says so.
        (member if away == "redis" else redis).kill()
        for each in (one, two):
            await shared(http, each, 0)
        status, answer = await revoke(http, one, {"subject": "bob"})
        assert (status, answer["code"]) == (503, "revocation-not-spread")
        assert not others[1].closed, "it cannot know"
        await asyncio.to_thread(member.start)
        await asyncio.to_thread(replica_set.primary)
        assert [await close_code(socket) for socket in others] == [4401, 4401]
        # What only Redis was told is in MongoDB by now: Redis is gone, and a node that starts knows.
        two.kill()
        two.start()
        for bearer in (ada, bob):
            assert await push(http, two, bearer) == REFUSED
