"""What an account or an address may do in a minute, on one node and on two, with Redis and without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest

from sync.protocol.lib0 import write_var_string
from tests.e2e.kit import PATIENCE, metrics, shared, token, two_nodes
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

LIMIT = 8
FLAGS = ("--rate-pushes", f"{LIMIT}", "--rate-handshakes", f"{LIMIT}", "--rate-refusals", f"{LIMIT}", "--trust-proxy", "1")
EMPTY_PUSH = msgpack.packb({"device": "d"})


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[list[ServerProcess]]:
    with two_nodes(tmp_path_factory.mktemp("nodes"), redis, *FLAGS) as nodes:
        yield nodes


async def within_a_minute() -> None:
    """Counters begin anew with each minute: wait for the next one, when this is about to end."""
    left = 60 - time.time() % 60
    if left < 10:
        await asyncio.sleep(left)


async def push(http: aiohttp.ClientSession, node: ServerProcess, bearer: str, address: str = "203.0.113.1") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/msgpack", "X-Forwarded-For": address}
    async with http.post(f"{node.url}/api/v1/sync", data=EMPTY_PUSH, headers=headers) as response:
        if response.status == 200:
            return 200, ""
        problem = await response.json()
        if response.status == 429:
            assert response.content_type == "application/problem+json"
            assert problem["limit"] == LIMIT
            assert 1 <= problem["retry_after"] <= 60
            assert response.headers["Retry-After"] == str(problem["retry_after"])
        return response.status, problem["code"]


async def pushes(http: aiohttp.ClientSession, node: ServerProcess, bearer: str, times: int) -> int:
    """How many of so many were taken."""
    return sum([(await push(http, node, bearer))[0] == 200 for _ in range(times)])


async def handshake(
    http: aiohttp.ClientSession, node: ServerProcess, path: str, bearer: str, address: str = "203.0.113.1"
) -> int:
    """The status of a handshake, 101 when it was accepted."""
    headers = {"X-Forwarded-For": address} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        async with http.ws_connect(f"{node.url}{path}", headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        refusal = error
    if refusal.status == 429:
        assert refusal.headers is not None
        assert 1 <= int(refusal.headers["Retry-After"]) <= 60
    return refusal.status


async def test_pushes_of_one_account_are_bounded_and_counted(http: aiohttp.ClientSession, nodes: list[ServerProcess]) -> None:
    await within_a_minute()
    assert await pushes(http, nodes[0], token("ada"), LIMIT + 3) == LIMIT
    assert await push(http, nodes[0], token("ada"), "203.0.113.99") == (429, "rate-limited"), "it is the account that counts"
    assert await push(http, nodes[0], token("bob")) == (200, "")
    assert 'ebbtide_requests_refused_total{code="rate-limited"} 4.0' in await metrics(http, nodes[0])


@pytest.mark.parametrize("path", ["/ws/d", "/collab", "/ws/%00"])
async def test_handshakes_of_one_account_are_refused_before_the_upgrade(
    http: aiohttp.ClientSession, nodes: list[ServerProcess], path: str
) -> None:
    await within_a_minute()
    ada, bob = token(f"ada on {path}"), token(f"bob on {path}")
    assert [await handshake(http, nodes[0], path, ada) for _ in range(LIMIT + 2)] == [101] * LIMIT + [429] * 2
    assert await handshake(http, nodes[0], path, bob) == 101


async def test_a_collab_socket_counts_for_the_account_that_it_names_later(
    http: aiohttp.ClientSession, nodes: list[ServerProcess]
) -> None:
    await within_a_minute()
    codes = []
    for _ in range(LIMIT + 1):
        async with http.ws_connect(f"{nodes[0].url}/collab", headers={"X-Forwarded-For": "203.0.113.2"}) as socket:
            for document in ("one", "two"):
                await socket.send_bytes(write_var_string(document) + b"\x02\x00" + write_var_string(token("late")))
            codes.append((await socket.receive()).data)
    assert all(isinstance(each, bytes) for each in codes[:LIMIT]), "it counts once, however many documents it opens"
    assert codes[LIMIT] == 1013


async def test_sockets_that_name_nobody_count_for_their_address(
    http: aiohttp.ClientSession, nodes: list[ServerProcess]
) -> None:
    await within_a_minute()
    many = 10 * LIMIT
    assert [await handshake(http, nodes[0], "/collab", "", "203.0.113.3") for _ in range(many + 1)] == [101] * many + [429]
    assert await handshake(http, nodes[0], "/collab", "", "203.0.113.4") == 101
    assert await handshake(http, nodes[0], "/collab", "", "198.51.100.1, 203.0.113.3") == 429, (
        "the client chose what stands left"
    )


async def test_refused_tokens_count_for_their_address_and_good_ones_pass(
    http: aiohttp.ClientSession, nodes: list[ServerProcess]
) -> None:
    await within_a_minute()
    address = "203.0.113.5"
    assert [await push(http, nodes[0], "a.b.c", address) for _ in range(LIMIT)] == [(401, "token-malformed")] * LIMIT
    assert await push(http, nodes[0], "a.b.c", address) == (429, "rate-limited")
    assert await handshake(http, nodes[0], "/ws/d", "a.b.c", address) == 429
    assert await handshake(http, nodes[0], "/collab", "a.b.c", address) == 429
    async with http.ws_connect(f"{nodes[0].url}/collab", headers={"X-Forwarded-For": address}) as socket:
        await socket.send_bytes(write_var_string("d") + b"\x02\x00" + write_var_string("a.b.c"))
        assert (await socket.receive()).data == 1013
    assert await push(http, nodes[0], token("neighbour"), address) == (200, "")
    assert await push(http, nodes[0], "a.b.c", "203.0.113.6") == (401, "token-malformed")


async def taken_until_told(http: aiohttp.ClientSession, node: ServerProcess, bearer: str) -> int:
    """How many pushes a node takes before it refuses one: its own limit when it hears of no other node."""
    taken = 0
    async with asyncio.timeout(PATIENCE):
        while await push(http, node, bearer) == (200, ""):
            taken += 1
            await asyncio.sleep(0.7)
    return taken


async def test_nodes_count_together_with_redis_and_alone_without(
    http: aiohttp.ClientSession, nodes: list[ServerProcess], redis: RedisServer
) -> None:
    await within_a_minute()
    carol = token("carol")
    assert await pushes(http, nodes[0], carol, LIMIT) == LIMIT
    assert await taken_until_told(http, nodes[1], carol) < LIMIT
    redis.kill()
    for node in nodes:
        await shared(http, node, 0)
    await within_a_minute()
    dora = token("dora")
    assert [await pushes(http, node, dora, LIMIT + 1) for node in nodes] == [LIMIT, LIMIT]
    redis.start()
    for node in nodes:
        await shared(http, node, 1)
    await within_a_minute()
    eve = token("eve")
    assert await pushes(http, nodes[1], eve, LIMIT) == LIMIT
    assert await taken_until_told(http, nodes[0], eve) < LIMIT


async def test_an_open_server_has_no_bound_unless_it_is_given_one(
    http: aiohttp.ClientSession, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ServerProcess(tmp_path_factory.mktemp("open"), "--rate-pushes", f"{LIMIT}") as node:
        await within_a_minute()
        assert await pushes(http, node, "", LIMIT + 2) == LIMIT
        assert {await handshake(http, node, "/ws/d", "") for _ in range(LIMIT * 3)} == {101}
