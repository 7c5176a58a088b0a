"""Revoked on one of two nodes: open sockets on the other end, and nobody comes in with the token again, Redis or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import jwt
import msgpack  # type: ignore[import-untyped]
import pytest
from redis.asyncio import Redis

from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_string
from tests.e2e.kit import ENVIRON, PATIENCE, SECRET, shared, token, two_nodes
from tests.e2e.revoking import admin, close_code, opened, push, refusal_of, revoke
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

HOCUSPOCUS = Hocuspocus()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[list[ServerProcess]]:
    with two_nodes(tmp_path_factory.mktemp("nodes"), redis) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("alone"), open_to_all=False, environ=ENVIRON) as node:
        yield node


def auth(document: str, bearer: str) -> bytes:
    return write_var_string(document) + b"\x02\x00" + write_var_string(bearer)


async def verdict(socket: aiohttp.ClientWebSocketResponse) -> str:
    """The next `granted` or `denied` of a `/collab` socket."""
    async with asyncio.timeout(PATIENCE):
        while True:
            frame = await socket.receive_bytes()
            if frame == HOCUSPOCUS.granted("d", True):
                return "granted"
            if frame[2:4] == b"\x02\x01":
                return "denied"


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_log_out_ends_sockets_on_every_node_and_lets_nobody_back(
    http: aiohttp.ClientSession, nodes: list[ServerProcess]
) -> None:
    ada, bob = token("ada"), token("bob")
    sockets = [await opened(http, node, ada) for node in nodes]
    collab = await http.ws_connect(f"{nodes[1].url}/collab")
    await collab.send_bytes(auth("d", ada))
    assert await verdict(collab) == "granted"
    other = await opened(http, nodes[1], bob)
    status, answer = await revoke(http, nodes[0], {"subject": "ada"})
    assert (status, list(answer)) == (200, ["revoked_at"])
    assert [await close_code(socket) for socket in (*sockets, collab)] == [4401, 4401, 4401]
    for node in nodes:
        assert await push(http, node, ada) == (401, "token-revoked")
        assert await refusal_of(http, node, ada) == 4401
        async with http.ws_connect(f"{node.url}/collab", headers={"Authorization": f"Bearer {ada}"}) as again:
            for given in (ada, ""):
                await again.send_bytes(auth("d", given))
                assert await verdict(again) == "denied"
        assert await push(http, node, token("ada", iat=answer["revoked_at"] - 0.5)) == (401, "token-revoked")
        assert await push(http, node, bob) == (200, "")
    assert not other.closed
    async with http.ws_connect(f"{nodes[0].url}/ws/d", headers={"Authorization": f"Bearer {bob}"}):
        pass
    await other.close()


async def test_a_changed_role_comes_with_the_next_token(http: aiohttp.ClientSession, nodes: list[ServerProcess]) -> None:
    now = time.time()
    before, after = token("carol", iat=now - 2), token("carol", iat=now, documents={"*": "viewer"})
    unsaid = jwt.encode({"sub": "carol", "exp": now + 600, "documents": {"*": "owner"}}, SECRET, "HS256")
    renewed = await http.ws_connect(f"{nodes[1].url}/collab")
    kept = await opened(http, nodes[1], after)
    for given in (before, token("carol", iat=now)):
        await renewed.send_bytes(auth("d", given))
        assert await verdict(renewed) == "granted"
    status, answer = await revoke(http, nodes[0], {"subject": "carol", "issued_until": now - 1})
    assert (status, answer["revoked_at"]) == (200, now - 1)
    await until_refused(http, nodes[1], before)
    assert await push(http, nodes[1], unsaid) == (401, "token-revoked")
    # Both go by tokens from after the change, though one came in with an older.
    assert await push(http, nodes[1], after) == (200, "")
    await renewed.send_bytes(auth("d", after))
    async with asyncio.timeout(PATIENCE):
        while await renewed.receive_bytes() != HOCUSPOCUS.granted("d", False):
            pass
    # A token that was renewed is no way back to the older one.
    await renewed.send_bytes(auth("d", before))
    assert await verdict(renewed) == "denied"
    assert not kept.closed
    await kept.close()
    await renewed.close()


async def until_refused(http: aiohttp.ClientSession, node: ServerProcess, bearer: str) -> None:
    async def refused() -> bool:
        return (await push(http, node, bearer))[0] == 401

    await until(refused)


async def test_one_token_is_revoked_and_its_subject_s_others_are_not(
    http: aiohttp.ClientSession, nodes: list[ServerProcess]
) -> None:
    one, other = token("dora", jti="phone"), token("dora", jti="laptop")
    sockets = [await opened(http, nodes[1], each) for each in (one, other)]
    assert (await revoke(http, nodes[0], {"token": "phone"}))[0] == 200
    assert await close_code(sockets[0]) == 4401
    assert await push(http, nodes[1], one) == (401, "token-revoked")
    assert await push(http, nodes[1], other) == (200, "")
    await sockets[1].close()


async def test_without_redis_the_asked_node_goes_ahead_and_says_so(
    http: aiohttp.ClientSession, nodes: list[ServerProcess], redis: RedisServer
) -> None:
    first, second = token("eve"), token("fay")
    assert (await revoke(http, nodes[0], {"subject": "eve"}))[0] == 200
    await until_refused(http, nodes[1], first)
    redis.kill()
    for node in nodes:
        await shared(http, node, 0)
    here, there = await opened(http, nodes[0], second), await opened(http, nodes[1], second)
    for _ in range(2):
        status, answer = await revoke(http, nodes[0], {"subject": "fay"})
        assert (status, answer["code"]) == (503, "revocation-not-spread")
    assert await close_code(here) == 4401
    assert await push(http, nodes[0], second) == (401, "token-revoked")
    assert await push(http, nodes[1], second) == (200, ""), "it cannot know"
    # Redis comes back with nothing: what each node knew is there again, and has reached the other.
    redis.start()
    assert await close_code(there) == 4401
    for node in nodes:
        await shared(http, node, 1)
        assert await push(http, node, second) == (401, "token-revoked")
        assert await push(http, node, first) == (401, "token-revoked")
    client = Redis.from_url(redis.url)
    members = set(await client.zrange("ebbtide:revocations", 0, -1))
    await client.aclose()
    assert {b"seve", b"sfay"} <= members
    assert (await revoke(http, nodes[0], {"subject": "fay"}))[0] == 200
    # And a node that starts now has read it before it takes a connection.
    nodes[1].kill()
    nodes[1].start()
    assert await push(http, nodes[1], second) == (401, "token-revoked")


async def test_a_full_redis_is_said_once_and_the_other_node_hears_all_the_same(
    http: aiohttp.ClientSession, nodes: list[ServerProcess], redis: RedisServer
) -> None:
    said = [node.errors.count("redis away") for node in nodes]
    client = Redis.from_url(redis.url)
    await client.config_set("maxmemory", 1)
    for name in ("hal", "ian", "jim"):
        bearer = token(name)
        there = await opened(http, nodes[1], bearer)
        for node in nodes:
            # What is counted of this is refused, and nothing else is.
            assert await push(http, node, bearer) == (200, "")
            await shared(http, node, 0)
        status, answer = await revoke(http, nodes[0], {"subject": name})
        assert (status, answer["code"]) == (503, "revocation-not-spread")
        assert await close_code(there) == 4401
    await client.config_set("maxmemory", 0)
    await client.aclose()
    for node in nodes:
        assert await push(http, node, token("kay")) == (200, "")
        await shared(http, node, 1)
    assert (await revoke(http, nodes[0], {"subject": "jim"}))[0] == 200
    assert [node.errors.count("redis away") for node in nodes] == said
    assert [node.errors.count("redis refuses to write") for node in nodes] == [1, 1]
    assert not any("HINCRBY" in node.errors for node in nodes)


async def test_what_another_hand_writes_in_redis_is_passed_over(
    http: aiohttp.ClientSession, nodes: list[ServerProcess], redis: RedisServer
) -> None:
    client = Redis.from_url(redis.url)
    for data in (b"", b"nonsense", b"\x7f\xf8" + b"\x00" * 6 + b"sgus", b"\x00" * 8 + b"s\xff"):
        await client.publish("ebbtide\0revocations", data)
    await client.zadd("ebbtide:revocations", {b"sgus": 1e300, b"\xff": time.time(), b"": time.time()})
    nodes[1].kill()
    nodes[1].start()
    for node in nodes:
        assert await push(http, node, token("gus")) == (200, "")
    assert (await revoke(http, nodes[0], {"subject": "gus", "issued_until": time.time()}))[0] == 200
    await client.zrem("ebbtide:revocations", b"sgus", b"\xff", b"")
    await client.aclose()


async def test_processes_on_one_folder_reach_each_other_and_remember(
    http: aiohttp.ClientSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shared")
    ada = token("ada")
    with (
        ServerProcess(folder, open_to_all=False, environ=ENVIRON) as one,
        ServerProcess(folder, open_to_all=False, environ=ENVIRON) as two,
    ):
        sockets = [await opened(http, node, ada) for node in (one, two)]
        assert (await revoke(http, one, {"subject": "ada"}))[0] == 200
        assert [await close_code(socket) for socket in sockets] == [4401, 4401]
        one.kill()
        one.start()
        for node in (one, two):
            assert await push(http, node, ada) == (401, "token-revoked")


@pytest.mark.parametrize(
    ("bearer", "status", "code"),
    [
        ("", 401, "token-missing"),
        (token("mallory"), 403, "forbidden"),
        (token("mallory", admin="true"), 403, "forbidden"),
        (token("mallory", admin=1), 403, "forbidden"),
        (token("mallory", "another secret of thirty-two bytes", admin=True), 401, "token-forged"),
        (token("mallory", admin=True, exp=time.time() - 1), 401, "token-expired"),
    ],
)
async def test_only_an_admin_revokes(
    http: aiohttp.ClientSession, alone: ServerProcess, bearer: str, status: int, code: str
) -> None:
    answered, answer = await revoke(http, alone, {"subject": "victim"}, bearer)
    assert (answered, answer["code"]) == (status, code)
    assert await push(http, alone, token("victim")) == (200, "")


async def test_a_revoked_admin_revokes_no_more(http: aiohttp.ClientSession, alone: ServerProcess) -> None:
    stolen = admin(jti="stolen")
    assert (await revoke(http, alone, {"token": "stolen"}, stolen))[0] == 200
    status, answer = await revoke(http, alone, {"subject": "victim"}, stolen)
    assert (status, answer["code"]) == (401, "token-revoked")


async def test_bodies_are_bounded(http: aiohttp.ClientSession, alone: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {admin()}", "Content-Type": "application/json"}
    url = f"{alone.url}/api/v1/revocations"

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    for body in (b'{"subject":"' + b"a" * 5000 + b'"}', in_pieces()):
        async with http.post(url, data=body, headers=headers) as response:
            assert (response.status, (await response.json())["code"]) == (413, "request-entity-too-large")
    async with http.post(url, data=b'{"subject":"ada"}', headers=headers | {"Content-Type": "text/plain"}) as response:
        assert (response.status, (await response.json())["code"]) == (415, "unsupported-content-type")
    status, answer = await revoke(http, alone, {"subject": "ada", "token": "7"})
    assert (status, answer["code"]) == (400, "bad-request")


async def test_an_open_server_has_no_tokens_to_revoke(http: aiohttp.ClientSession, server: ServerProcess) -> None:
    status, answer = await revoke(http, server, {"subject": "ada"})
    assert (status, answer["code"]) == (403, "forbidden")
    assert "without a token" in answer["detail"]


async def test_a_push_whose_body_comes_slowly_is_not_a_way_around(http: aiohttp.ClientSession, alone: ServerProcess) -> None:
    body = msgpack.packb({"device": "d", "entries": []})
    begun, revoked = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:3]
        begun.set()
        await revoked.wait()
        yield body[3:]

    headers = {"Authorization": f"Bearer {token('slow')}", "Content-Type": "application/msgpack"}
    pushing = asyncio.ensure_future(http.post(f"{alone.url}/api/v1/sync", data=slowly(), headers=headers))
    await begun.wait()
    # The answer to another request: by then, the server has had the beginning of the first.
    assert (await revoke(http, alone, {"subject": "slow"}))[0] == 200
    revoked.set()
    response = await pushing
    assert (response.status, (await response.json())["code"]) == (401, "token-revoked")
