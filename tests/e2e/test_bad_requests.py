"""What is no request, or none that can be read: a problem for its sender, a line for the log, and no secret in either."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.harness.server_process import ServerProcess

PATIENCE = 20.0
KIB = 1 << 10
PUSH = b"POST /api/v1/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/msgpack\r\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("open")) as process:
        yield process


def exchange(node: ServerProcess, request: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer to what is written on a connection of its own."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.headers.get_content_type(), response.read()


def with_headers(*headers: bytes) -> bytes:
    return b"\r\n".join((b"GET /healthz HTTP/1.1", b"Host: localhost", *headers, b"", b""))


TOO_LONG = "request-header-fields-too-large"
BAD: dict[str, tuple[bytes, int, str]] = {
    "a long header": (with_headers(b"Authorization: Bearer " + b"SECRET" * (4 * KIB)), 431, TOO_LONG),
    "a long address": (b"GET /ws/" + b"SECRET" * (4 * KIB) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, TOO_LONG),
    "many headers": (with_headers(*(b"X-%d: SECRET" % number for number in range(65))), 400, "bad-request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00", 400, "bad-request"),
    "TLS": (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(100), 400, "bad-request"),
    "no Host": (b"GET /ws/a?token=SECRET HTTP/1.1\r\n\r\n", 400, "bad-request"),
    "no address": (b"GET http://[::1/?token=SECRET HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad-request"),
    "no chunk": (PUSH + b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\n", 400, "bad-request"),
    "gzip": (PUSH + b"Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\nSECRET", 415, "unsupported-media-type"),
    "a head that announces gzip": (
        PUSH + b"Content-Encoding: gzip\r\nContent-Length: 99\r\n\r\n",
        415,
        "unsupported-media-type",
    ),
    "gzip for nobody": (
        b"POST /SECRET HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n",
        415,
        "unsupported-media-type",
    ),
}


@pytest.mark.parametrize(("request_", "status", "code"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_a_problem_and_one_line_of_the_log(
    node: ServerProcess, request_: bytes, status: int, code: str
) -> None:
    before = len(node.errors)
    answered, kind, body = exchange(node, request_)
    problem = json.loads(body)
    assert (answered, kind) == (status, "application/problem+json")
    assert (problem["status"], problem["code"]) == (status, code)
    assert exchange(node, with_headers())[0] == 200, "by then, all is written that will be"
    (line,) = node.errors[before:].splitlines()
    assert f' info    server.web.problem: request refused code="{code}" ' in line
    assert "SECRET" not in problem["detail"] + line


def test_a_client_that_goes_in_the_middle_of_its_push_is_no_error_of_ours(node: ServerProcess) -> None:
    before = len(node.errors)
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as connection:
        connection.sendall(PUSH + b"Content-Length: 500\r\n\r\nhello")
        time.sleep(0.2)
    deadline = time.monotonic() + PATIENCE
    while len(node.errors) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    (line,) = node.errors[before:].splitlines()
    assert 'info    server.web.problem: request refused code="bad-request"' in line


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "X-Other: {}"])
def test_a_header_has_room_for_the_longest_token(node: ServerProcess, header: str) -> None:
    assert exchange(node, with_headers(header.format("t" * 8 * KIB).encode()))[0] == 200


def test_an_address_has_room_for_the_longest_token_and_the_longest_name(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": "0123456789abcdef" * 2}) as node:
        address = f"/ws/{'%C3%BC' * 100}?token={'t' * 8 * KIB}"
        status, _, body = exchange(node, f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert status == 400
        assert "this address speaks WebSocket" in json.loads(body)["detail"]
