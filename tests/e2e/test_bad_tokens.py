"""Tokens that are missing, bad, or of another document: a clear refusal everywhere, that operators see."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import jwt
import pytest

from sync.protocol.lib0 import write_var_string
from tests.e2e.kit import BLANK_STEP_1, ENVIRON, SECRET, end_of, metrics, push, update_of
from tests.harness.server_process import ServerProcess


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants tokens."""
    with ServerProcess(tmp_path_factory.mktemp("guarded"), open_to_all=False, environ=ENVIRON) as process:
        yield process


def token(
    *, secret: str = SECRET, algorithm: str = "HS256", life: float = 600, document: str = "mine", role: str = "editor"
) -> str:
    claims = {"sub": "ada", "exp": time.time() + life, "documents": {document: role}}
    return jwt.encode(claims, secret, algorithm=algorithm)


def unsigned() -> str:
    head, body, _ = token().split(".")
    del head
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{none}.{body}."


BAD_TOKENS: dict[str, tuple[Callable[[], str], int, int, str]] = {
    "missing": (lambda: "", 4401, 401, "token-missing"),
    "no token at all": (lambda: "nonsense", 4401, 401, "token-malformed"),
    "expired": (lambda: token(life=-1), 4401, 401, "token-expired"),
    "forged": (lambda: token(secret="another secret that is long enough to sign with"), 4401, 401, "token-forged"),
    "unsigned": (unsigned, 4401, 401, "token-forged"),
}


@pytest.mark.parametrize(("make", "close_code", "status", "code"), BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_bad_token_is_refused_everywhere(
    http: aiohttp.ClientSession,
    guarded: ServerProcess,
    make: Callable[[], str],
    close_code: int,
    status: int,
    code: str,
) -> None:
    bad = make()
    async with http.ws_connect(f"{guarded.url}/ws/mine", params={"token": bad}) as socket:
        await socket.send_bytes(BLANK_STEP_1)
        first = await socket.receive_bytes()
        assert first.startswith(b"\x02\x00"), "told in the protocol: permission denied"
        assert (await end_of(socket))[0] == close_code
    async with http.ws_connect(f"{guarded.url}/collab") as socket:
        await socket.send_bytes(write_var_string("mine") + b"\x02\x00" + write_var_string(bad))
        assert (await socket.receive_bytes()).startswith(write_var_string("mine") + b"\x02\x01")
    headers = {"Authorization": f"Bearer {bad}"} if bad else {}
    async with http.post(f"{guarded.url}/api/v1/sync", json={"device": "d"}, headers=headers) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        assert (await response.json())["code"] == code


async def test_a_token_for_another_document_opens_only_that(http: aiohttp.ClientSession, guarded: ServerProcess) -> None:
    async with http.ws_connect(f"{guarded.url}/ws/theirs", params={"token": token()}) as socket:
        await socket.send_bytes(BLANK_STEP_1)
        assert (await end_of(socket))[0] == 4403
    async with http.ws_connect(f"{guarded.url}/collab") as socket:
        for name, kind in (("theirs", b"\x02\x01"), ("mine", b"\x02\x02")):
            await socket.send_bytes(write_var_string(name) + b"\x02\x00" + write_var_string(token()))
            assert (await socket.receive_bytes()).startswith(write_var_string(name) + kind)
    answer = await push(
        http,
        guarded,
        [{"id": "1", "doc": "theirs", "update": update_of()}, {"id": "2", "doc": "mine", "update": update_of()}],
        pull={"theirs": b"\x00", "mine": b"\x00"},
        headers={"Authorization": f"Bearer {token()}"},
    )
    assert [(r["status"], r.get("code")) for r in answer["receipts"]] == [("rejected", "forbidden"), ("applied", None)]
    assert answer["deltas"]["theirs"]["code"] == "forbidden"
    assert answer["deltas"]["mine"]["seq"] >= 1


async def test_a_viewer_may_read_and_not_write(http: aiohttp.ClientSession, guarded: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {token(role='viewer')}"}
    answer = await push(http, guarded, [{"id": "1", "doc": "mine", "update": update_of()}], headers=headers)
    assert answer["receipts"][0]["code"] == "forbidden"


async def test_an_open_socket_ends_when_its_token_does(http: aiohttp.ClientSession, guarded: ServerProcess) -> None:
    async with http.ws_connect(f"{guarded.url}/ws/mine", params={"token": token(life=1.5)}) as socket:
        await socket.send_bytes(BLANK_STEP_1)
        assert (await end_of(socket))[0] == 4401


async def refusals(http: aiohttp.ClientSession, server: ServerProcess) -> dict[str, float]:
    """What /metrics shows with a label: `name{code="..."}` and its value."""
    lines = (await metrics(http, server)).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if "{code=" in line)}


async def test_an_operator_sees_who_is_refused_and_why(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    # So few connections need no more open files than any machine permits: no line about that.
    with ServerProcess(tmp_path, "--max-connections", "100", open_to_all=False, environ=ENVIRON) as server:
        for document, bad in (("mine", token(life=-1)), ("theirs", token()), ("", token())):
            async with http.ws_connect(f"{server.url}/ws/{document}", params={"token": bad}) as socket:
                await end_of(socket)
        async with http.ws_connect(f"{server.url}/collab") as socket:
            await socket.send_bytes(write_var_string("theirs") + b"\x02\x00" + write_var_string(token()))
            await socket.receive_bytes()
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{server.url}/collab", origin="https://elsewhere.example")
        async with http.get(f"{server.url}/collab") as response:
            assert response.status == 400
        assert await refusals(http, server) == {
            'ebbtide_sockets_closed_total{code="4401"}': 1,
            'ebbtide_sockets_closed_total{code="4403"}': 1,
            'ebbtide_sockets_closed_total{code="4400"}': 1,
            'ebbtide_documents_denied_total{code="forbidden"}': 1,
            'ebbtide_requests_refused_total{code="forbidden"}': 1,
            'ebbtide_requests_refused_total{code="bad-request"}': 1,
        }
        lines = server.errors.splitlines()
        assert len(lines) == 6
        assert all(" info " in line and "code=" in line and "reason=" in line for line in lines)
        assert "https://elsewhere.example" in server.errors
        assert "eyJ" not in server.errors
