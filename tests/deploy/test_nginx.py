"""deploy/nginx in a real nginx, in front of real nodes: who serves what, what is tried again, and what is kept out of logs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from tests.harness.nginx import Nginx
from tests.harness.program import free_port
from tests.harness.server_process import ServerProcess

SECRET = "0123456789abcdef" * 2
PUSH = {"Content-Type": "application/json"}
EMPTY_PUSH = b'{"device": "d", "entries": []}'
NAMES = ["plain", "with%20space", "a/b//c", "%C3%A9t%C3%A9", "a%2Fb//c", *(f"document-{number}" for number in range(25))]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    """Two nodes on one store."""
    data = tmp_path_factory.mktemp("data")
    with ServerProcess(data) as one, ServerProcess(data) as two:
        yield [one, two]


@pytest.fixture
def nginx(tmp_path: Path, nodes: list[ServerProcess]) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", [node.port for node in nodes]) as nginx:
        yield nginx


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def requests(nginx: Nginx) -> list[dict[str, Any]]:
    """The lines of the access log."""
    return [json.loads(line) for line in nginx.logs.splitlines() if line.startswith("{")]


def logged(nginx: Nginx, count: int) -> list[dict[str, Any]]:
    """The same, once there are so many: a line is written when its request is over."""
    deadline = time.monotonic() + 20
    while len(found := requests(nginx)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_the_configuration_is_good(tmp_path: Path) -> None:
    said = Nginx(tmp_path / "nginx", [1, 2]).check()
    assert "syntax is ok" in said
    assert "[emerg]" not in said


def test_as_a_service_it_needs_no_output_that_can_be_opened(tmp_path: Path) -> None:
    """A service's standard output is a socket. The configuration says which lines are others then."""
    nginx = Nginx(tmp_path / "nginx", [1])
    path = tmp_path / "nginx" / "nginx.conf"
    reader, output = socket.socketpair()
    with reader, output:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            nginx.check(output.fileno())
        assert "/dev/stdout" in caught.value.stderr
        text, replaced = re.subn(r"\S+ \S+.*;( +)# as a service: (.*;)", r"\2", path.read_text())
        assert replaced == 2
        path.write_text(text.replace(" /run/", f" {tmp_path}/").replace(" /var/log/nginx/", f" {tmp_path}/"))
        assert "syntax is ok" in nginx.check(output.fileno())
    assert (tmp_path / "access.log").is_file()


async def test_one_node_serves_a_document_and_each_serves_some(nginx: Nginx, http: aiohttp.ClientSession) -> None:
    for _ in range(3):
        for name in NAMES:
            async with http.ws_connect(f"{nginx.url}/ws/{name}"):
                pass
    served: dict[str, set[str]] = {}
    for line in logged(nginx, 3 * len(NAMES)):
        assert line["status"] == 101
        served.setdefault(line["path"], set()).add(line["nodes"])
    assert len(served) == len(NAMES) - 1  # one has two spellings
    assert all(len(nodes) == 1 for nodes in served.values())
    assert len(set.union(*served.values())) == 2


async def test_a_document_has_the_name_that_the_client_gave_it(
    nginx: Nginx, nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    """Were the address taken apart and put together anew, `a//b%20c` would be another document."""
    update = "AQHqkbwKAAQBBHRleHQCaGkA"
    entry = {"id": "1", "doc": "named//a b", "update": update}
    body = json.dumps({"device": "d", "entries": [entry]})
    async with http.post(f"{nginx.url}/api/v1/sync", data=body, headers=PUSH) as response:
        assert [receipt["status"] for receipt in (await response.json(content_type=None))["receipts"]] == ["applied"]
    async with http.ws_connect(f"{nginx.url}/ws/named//a%20b") as socket:
        await socket.send_bytes(b"\x00\x00\x01\x00")
        frames = [await socket.receive_bytes() for _ in range(2)]
        assert any(b"text" in frame and b"hi" in frame for frame in frames)


async def test_a_node_that_is_away_is_not_noticed(
    tmp_path: Path, nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    with Nginx(tmp_path / "nginx", [free_port(), nodes[0].port]) as nginx:
        for name in NAMES:
            async with http.ws_connect(f"{nginx.url}/ws/{name}"):
                pass
        async with http.ws_connect(f"{nginx.url}/collab"):
            pass
        for _ in range(5):
            async with http.post(f"{nginx.url}/api/v1/sync", data=EMPTY_PUSH, headers=PUSH) as response:
                assert response.status == 200
        assert any("," in line["nodes"] for line in logged(nginx, len(NAMES) + 6))


async def test_a_node_that_is_full_is_passed_over(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    data = tmp_path / "data"
    with (
        ServerProcess(data, "--max-connections", "1") as small,
        ServerProcess(data) as large,
        Nginx(tmp_path / "nginx", [small.port, large.port]) as nginx,
    ):
        async with AsyncExitStack() as open_sockets:
            for name in NAMES:
                await open_sockets.enter_async_context(http.ws_connect(f"{nginx.url}/ws/{name}"))
        assert any(line["statuses"] == "503, 101" for line in logged(nginx, len(NAMES)))


async def test_a_push_whose_node_went_before_it_answered_is_sent_to_another(
    tmp_path: Path, nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    async def go(request: web.Request) -> web.Response:
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    dying = web.Application()
    dying.router.add_post("/api/v1/sync", go)
    async with TestServer(dying) as server:
        assert server.port is not None
        with Nginx(tmp_path / "nginx", [server.port, nodes[0].port]) as nginx:
            for _ in range(4):
                async with http.post(f"{nginx.url}/api/v1/sync", data=EMPTY_PUSH, headers=PUSH) as response:
                    assert response.status == 200
            assert any(line["statuses"] == "502, 200" for line in logged(nginx, 4))


async def test_tokens_are_in_no_log(tmp_path: Path, nodes: list[ServerProcess], http: aiohttp.ClientSession) -> None:
    token = jwt.encode({"sub": "ada", "exp": 4_000_000_000}, SECRET, "HS256")
    with Nginx(tmp_path / "away", [free_port(), free_port()]) as away, Nginx(tmp_path / "up", [nodes[0].port]) as up:
        for nginx in (away, up):
            for path in (f"/ws/d?token={token}", f"/collab?token={token}", f"/api/v1/sync?token={token}", f"/?token={token}"):
                headers = {"Authorization": f"Bearer {token}", "Referer": f"{nginx.url}/?token={token}"}
                async with http.get(f"{nginx.url}{path}", headers=headers) as response:
                    assert response.status >= 400
                    assert response.content_type == "application/problem+json"
            logged(nginx, 4)
            assert token not in nginx.logs
            assert token.rpartition(".")[2] not in nginx.logs
        assert {line["status"] for line in requests(away)} == {502, 404}


async def test_a_token_of_8_kib_passes_in_the_address_and_in_a_header(nginx: Nginx, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{nginx.url}/ws/d?token={'x' * 8100}"):
        pass
    async with http.ws_connect(f"{nginx.url}/ws/d", headers={"Authorization": f"Bearer {'x' * 8100}"}):
        pass


async def test_bodies_have_the_limits_of_the_nodes(nginx: Nginx, http: aiohttp.ClientSession) -> None:
    async def status(path: str, size: int) -> tuple[int, str]:
        async with http.post(f"{nginx.url}{path}", data=bytes(size), headers=PUSH) as response:
            return response.status, (await response.json(content_type=None))["code"]

    # It reaches a node, which finds that it is no JSON.
    assert await status("/api/v1/sync", 16 << 20) == (400, "bad-request")
    assert await status("/api/v1/sync", (16 << 20) + 1) == (413, "request-entity-too-large")
    assert await status("/collab", (1 << 20) + 1) == (413, "request-entity-too-large")


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/", "/ws/../metrics", "/ws/..%2fmetrics", "/%6detrics", "//metrics"])
async def test_what_is_for_the_operator_is_not_passed_on(nginx: Nginx, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(URL(f"{nginx.url}{path}", encoded=True)) as response:
        assert response.status == 404
        assert (await response.json(content_type=None))["code"] == "not-found"
    assert logged(nginx, 1)[0]["nodes"] == ""


async def test_pages_of_the_proxys_own_origin_are_let_in(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    token = jwt.encode({"sub": "ada", "exp": 4_000_000_000, "documents": {"d": "editor"}}, SECRET, "HS256")
    with (
        ServerProcess(tmp_path / "data", open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": SECRET}) as node,
        Nginx(tmp_path / "nginx", [node.port]) as nginx,
    ):
        async with http.ws_connect(f"{nginx.url}/ws/d?token={token}", origin=nginx.url) as socket:
            await socket.receive_bytes(timeout=10)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(f"{nginx.url}/ws/d?token={token}", origin="http://elsewhere.example")
        assert caught.value.status == 403


async def test_what_a_client_claims_of_itself_is_replaced(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    app = web.Application()
    app.router.add_get("/healthz", echo)
    async with TestServer(app) as server:
        assert server.port is not None
        with Nginx(tmp_path / "nginx", [server.port]) as nginx:
            claims = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "elsewhere.example"}
            async with http.get(f"{nginx.url}/healthz", headers=claims) as response:
                headers = await response.json()
    host = nginx.url.removeprefix("http://")
    assert headers["Host"] == headers["X-Forwarded-Host"] == host
    assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == ("127.0.0.1", "http")
    assert "Connection" not in headers
    assert "Upgrade" not in headers
