from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server.config import Config
from server.metrics import Counters
from server.web.host import known_hosts
from server.web.problem import middleware


async def status(config: Config, host: str) -> int:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=[middleware(Counters()), known_hosts(config)])
    app.router.add_get("/", answer)
    async with TestClient(TestServer(app)) as client:
        return (await client.get("/", headers={"Host": host})).status


@pytest.mark.parametrize(("host", "expected"), [("localhost:8080", 200), ("rebound.example:8080", 403), ("", 403)])
async def test_an_open_server_answers_under_loopback_names_alone(host: str, expected: int) -> None:
    assert await status(Config(open=True), host) == expected


async def test_a_server_with_tokens_answers_under_any_name() -> None:
    assert await status(Config(), "ebb.example") == 200
