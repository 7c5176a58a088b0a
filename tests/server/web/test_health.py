from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server.metrics import Counters, Metrics
from server.web import health
from server.web.problem import middleware
from sync.rooms.errors import StoreUnavailable


class Node:
    """What `routes` asks about a node, for a test to set."""

    def __init__(self) -> None:
        self.draining = False
        self.failure: Exception | None = None
        self.checks = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.counters = Counters()

    async def check(self) -> None:
        self.checks += 1
        await self.answers.wait()
        if self.failure:
            raise self.failure


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def client(node: Node) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application(middlewares=[middleware(node.counters)])
    app.router.add_routes(health.routes(node.check, lambda: node.draining, Metrics(node.counters)))
    async with TestClient(TestServer(app)) as client:
        yield client


async def codes(client: TestClient[web.Request, web.Application]) -> tuple[int, int, str]:
    alive, ready = await client.get("/healthz"), await client.get("/readyz")
    return alive.status, ready.status, (await ready.json()).get("code", "")


async def test_a_node_with_its_store_is_alive_and_ready(client: TestClient[web.Request, web.Application]) -> None:
    assert await codes(client) == (200, 200, "")


async def test_a_node_without_its_store_is_alive_and_not_ready(
    client: TestClient[web.Request, web.Application], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    node.failure = StoreUnavailable("disk full")
    assert await codes(client) == (200, 503, "store-unavailable")
    node.failure = None
    assert await codes(client) == (200, 200, "")


async def test_a_store_that_does_not_answer_counts_as_away(
    client: TestClient[web.Request, web.Application], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.01)
    node.answers.clear()
    assert await codes(client) == (200, 503, "store-unavailable")


async def test_however_many_ask_the_store_is_asked_once(
    client: TestClient[web.Request, web.Application], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 3600.0)
    assert {each[1] for each in await asyncio.gather(*(codes(client) for _ in range(20)))} == {200}
    assert await codes(client) == (200, 200, "")
    assert node.checks == 1


async def test_an_outcome_is_asked_for_again_after_a_while(
    client: TestClient[web.Request, web.Application], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    for asked in (1, 2, 3):
        assert await codes(client) == (200, 200, "")
        assert node.checks == asked


async def test_a_store_that_hangs_is_not_asked_again_before_it_has_answered(
    client: TestClient[web.Request, web.Application], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.01)
    node.answers.clear()
    for _ in range(3):
        assert await codes(client) == (200, 503, "store-unavailable")
    assert node.checks == 1
    monkeypatch.setattr(health, "CHECK_SECONDS", 30.0)
    node.answers.set()
    assert await codes(client) == (200, 200, "")


async def test_a_draining_node_is_alive_and_not_ready(client: TestClient[web.Request, web.Application], node: Node) -> None:
    node.draining = True
    assert await codes(client) == (200, 503, "shutting-down")


async def test_metrics_are_served_in_the_text_format(client: TestClient[web.Request, web.Application], node: Node) -> None:
    node.counters.pushes = 4
    response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "\nebbtide_pushes_total 4.0\n" in await response.text()
