"""Bad input against a real server: a clear refusal each, bounded memory, and everyone else's work goes on."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
import msgpack  # type: ignore[import-untyped]
import pycrdt
import pytest
from yarl import URL

from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_bytes, write_var_string, write_var_uint
from sync.protocol.yws import YWebSocket
from tests.harness.server_process import ServerProcess

MIB = 1 << 20
SECRET = "a secret that is only ever used by this test"
PATIENCE = 30.0
YWS, HOCUSPOCUS = YWebSocket(), Hocuspocus()
BLANK_STEP_1 = YWS.step1("", b"\x00")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An open server with a short patience for silence, shared by the tests: each has to leave it in working order."""
    with ServerProcess(tmp_path_factory.mktemp("open"), "--handshake-seconds", "1") as process:
        yield process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants tokens."""
    environ = {"EBBTIDE_TOKEN_SECRET": SECRET}
    with ServerProcess(tmp_path_factory.mktemp("guarded"), open_to_all=False, environ=environ) as process:
        yield process


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


class Neighbour:
    """Somebody who works on all the while: `works` writes an edit and returns when it is durable."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._text = self._doc.get("text", type=pycrdt.Text)

    async def works(self) -> None:
        before = self._doc.get_state()
        self._text += "x"
        update = self._doc.get_update(before)
        await self._socket.send_bytes(YWS.update("", update))
        echo = YWS.update("", update)
        async with asyncio.timeout(PATIENCE):
            while await self._socket.receive_bytes() != echo:
                pass


@asynccontextmanager
async def neighbour(http: aiohttp.ClientSession, server: ServerProcess) -> AsyncIterator[Neighbour]:
    async with http.ws_connect(f"{server.url}/ws/neighbour") as socket:
        person = Neighbour(socket)
        await person.works()
        yield person
        await person.works()


async def end_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
    """The close code and reason, whatever comes before it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data), str(message.extra)
            assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PING), message


def memory(server: ServerProcess) -> int:
    """The resident memory of the server, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def transport_of(socket: aiohttp.ClientWebSocketResponse) -> asyncio.Transport:
    connection = socket._response.connection
    assert connection is not None
    assert isinstance(connection.transport, asyncio.Transport)
    return connection.transport


def update_of(text: str = "x") -> bytes:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    body = doc.get("text", type=pycrdt.Text)
    body += text
    return doc.get_update()


BAD_FRAMES = {
    "empty": b"",
    "truncated": b"\x00\x02\x7f\x01",
    "an endless integer": b"\xff" * 11,
    "an integer beyond 2**53": b"\x00\x02" + b"\xff" * 8 + b"\x01",
    "an unknown type": b"\x63",
    "an unknown sync type": b"\x00\x09\x00",
    "a server's message": b"\x02\x00\x00",
    "trailing bytes": BLANK_STEP_1 + b"\x00",
    "an update that does not decode": YWS.update("", b"\x01\xff\xff\xff"),
    "a cut update": YWS.update("", update_of("hello")[:-3]),
    "a state vector that does not decode": YWS.step1("", b"\x05\x01"),
    "awareness that does not decode": YWS.awareness("", b"\x02\x01\x01\x02{}"),
    "awareness that is no JSON": YWS.awareness("", b"\x01\x01\x01" + write_var_string("{nonsense")),
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_a_bad_frame_closes_its_y_websocket_with_4400(
    http: aiohttp.ClientSession, node: ServerProcess, frame: bytes
) -> None:
    async with neighbour(http, node), http.ws_connect(f"{node.url}/ws/neighbour") as socket:
        await socket.send_bytes(frame)
        code, reason = await end_of(socket)
        assert code == 4400
        assert reason


BAD_COLLAB_FRAMES = {
    "empty": b"",
    "a cut address": b"\x05abc",
    "an address that is not UTF-8": b"\x02\xff\xfe\x00\x00\x01\x00",
    "an over-long address": write_var_string("a" * 201) + b"\x00\x00\x01\x00",
    "an address with a control character": write_var_string("a\nb") + b"\x00\x00\x01\x00",
    "an empty address": write_var_string("") + b"\x00\x00\x01\x00",
    "an unknown type": write_var_string("a") + b"\x63",
    "a server's message": write_var_string("a") + b"\x08\x01",
    "trailing bytes": write_var_string("a") + b"\x03\x00",
    "a stateless text that is not UTF-8": write_var_string("a") + b"\x05\x01\xff",
}


@pytest.mark.parametrize("frame", BAD_COLLAB_FRAMES.values(), ids=BAD_COLLAB_FRAMES)
async def test_a_bad_frame_closes_its_collab_socket_with_4400(
    http: aiohttp.ClientSession, node: ServerProcess, frame: bytes
) -> None:
    async with neighbour(http, node), http.ws_connect(f"{node.url}/collab") as socket:
        await socket.send_bytes(frame)
        code, reason = await end_of(socket)
        assert code == 4400
        assert reason


async def test_an_update_that_does_not_decode_is_refused_on_a_collab_socket_too(
    http: aiohttp.ClientSession, node: ServerProcess
) -> None:
    async with neighbour(http, node), http.ws_connect(f"{node.url}/collab") as socket:
        await socket.send_bytes(write_var_string("neighbour") + b"\x02\x00" + write_var_string(""))
        await socket.send_bytes(HOCUSPOCUS.update("neighbour", b"\x01\xff\xff"))
        assert (await end_of(socket))[0] == 4400


async def test_an_oversized_frame_closes_its_socket_with_1009(http: aiohttp.ClientSession, node: ServerProcess) -> None:
    announced = b"\x82\xff" + (8 * MIB + 2048).to_bytes(8, "big") + b"mask"
    async with neighbour(http, node):
        for path in ("/ws/large", "/collab"):
            async with http.ws_connect(node.url + path) as socket:
                transport_of(socket).write(announced)
                assert (await end_of(socket))[0] == 1009


async def test_a_token_as_long_as_a_book_is_refused(http: aiohttp.ClientSession, node: ServerProcess) -> None:
    async with http.ws_connect(f"{node.url}/collab") as socket:
        await socket.send_bytes(write_var_string("a") + b"\x02\x00" + write_var_string("t" * 20_000))
        assert (await end_of(socket))[0] == 1009


async def test_text_messages_are_refused(http: aiohttp.ClientSession, node: ServerProcess) -> None:
    async with http.ws_connect(f"{node.url}/ws/a") as socket:
        await socket.send_str("hello")
        assert (await end_of(socket))[0] == 4400


@pytest.mark.parametrize("name", ["", "%ff%fe", "a" * 201, "%00", "a%09b", "%C3%BC" * 101], ids=lambda name: name[:9])
async def test_a_name_that_is_not_allowed_is_told_to_the_client(
    http: aiohttp.ClientSession, node: ServerProcess, name: str
) -> None:
    """A browser shows a page nothing of a refused handshake, and the page's provider would come back for ever."""
    async with http.ws_connect(URL(f"{node.url}/ws/{name}", encoded=True)) as socket:
        await socket.send_bytes(BLANK_STEP_1)
        assert await end_of(socket) == (4400, "a document name is 1 to 200 bytes of UTF-8 without control characters")


async def test_names_are_what_their_bytes_say_and_nothing_is_read_into_them(
    http: aiohttp.ClientSession, node: ServerProcess
) -> None:
    names = ["a/b", "ü +%25", "%FF", "日本"]
    for name in names:
        async with http.ws_connect(URL(f"{node.url}/ws/{quote(name)}", encoded=True)) as socket:
            update = YWS.update("", update_of(name))
            await socket.send_bytes(update)
            while await socket.receive_bytes() != update:
                pass
    for name in names:
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        doc.apply_update((await push(http, node, [], pull={name: b"\x00"}))["deltas"][name]["update"])
        assert str(doc.get("text", type=pycrdt.Text)) == name


async def test_a_foreign_origin_is_refused(http: aiohttp.ClientSession, node: ServerProcess) -> None:
    for path in ("/ws/a", "/collab"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await http.ws_connect(node.url + path, origin="https://elsewhere.example")
        assert refusal.value.status == 403
        async with http.ws_connect(node.url + path, origin=node.url):
            pass


@pytest.mark.parametrize(("path", "code"), [("/ws/a", 1013), ("/collab", 4408)])
async def test_sockets_that_say_nothing_are_closed(
    http: aiohttp.ClientSession, node: ServerProcess, path: str, code: int
) -> None:
    """y-websocket providers would not come back after 4408."""
    async with neighbour(http, node):
        sockets = [await http.ws_connect(node.url + path) for _ in range(100)]
        assert {code for code, _ in await asyncio.gather(*map(end_of, sockets))} == {code}


# Tokens


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
    async with http.get(f"{server.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if "{code=" in line)}


async def test_an_operator_sees_who_is_refused_and_why(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": SECRET}) as server:
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


# The offline queue


async def push(
    http: aiohttp.ClientSession,
    server: ServerProcess,
    entries: list[dict[str, object]],
    *,
    pull: dict[str, bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    body = msgpack.packb({"device": "test", "entries": entries, "pull": pull or {}})
    headers = {"Content-Type": "application/msgpack"} | (headers or {})
    async with http.post(f"{server.url}/api/v1/sync", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == 200, await response.text()
        return msgpack.unpackb(await response.read())


async def test_ten_thousand_entries_some_bad_get_ten_thousand_receipts(
    http: aiohttp.ClientSession, node: ServerProcess
) -> None:
    good = update_of("good")
    kinds: list[tuple[dict[str, object], str | None]] = [
        ({"doc": "queue", "update": b"\x01\xff\xff"}, "malformed-update"),
        ({"doc": "queue", "update": good[:-2]}, "malformed-update"),
        ({"doc": "queue", "update": "text"}, "malformed-update"),
        ({"doc": "bad\nname", "update": good}, "bad-document-name"),
        ({"doc": "a" * 201, "update": good}, "bad-document-name"),
        ({"update": good}, "bad-document-name"),
        ({"doc": "queue", "lineage": 7, "update": good}, "bad-lineage"),
    ]
    entries: list[dict[str, object]] = []
    expected: list[str | None] = []
    for index in range(10_000):
        fields, code = kinds[index // 50 % len(kinds)] if index % 50 == 7 else ({"doc": "queue"}, None)
        entries.append({"update": update_of("y") if code is None else b"", **fields, "id": str(index)})
        expected.append(code)
    async with neighbour(http, node) as person:
        pushing = asyncio.ensure_future(push(http, node, entries))
        await person.works()
        answer = await pushing
    assert [receipt["id"] for receipt in answer["receipts"]] == [str(index) for index in range(10_000)]
    assert [receipt.get("code") for receipt in answer["receipts"]] == expected
    assert all(r["status"] == ("rejected" if r.get("code") else "applied") for r in answer["receipts"])
    delta = (await push(http, node, [], pull={"queue": b"\x00"}))["deltas"]["queue"]
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.apply_update(delta["update"])
    assert str(doc.get("text", type=pycrdt.Text)) == "y" * expected.count(None)


BAD_BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "no MessagePack": ("application/msgpack", b"\xc1", 400, "bad-request"),
    "cut MessagePack": ("application/msgpack", msgpack.packb({"device": "d"})[:-1], 400, "bad-request"),
    "an array": ("application/msgpack", b"\x90", 400, "bad-request"),
    "no JSON": ("application/json", b"{", 400, "bad-request"),
    "JSON that is not UTF-8": ("application/json", b'{"device":"\xff"}', 400, "bad-request"),
    "deep JSON": ("application/json", b"[" * 100_000, 400, "bad-request"),
    "no device": ("application/json", b"{}", 400, "bad-request"),
    "an entry without id": ("application/json", b'{"device":"d","entries":[{}]}', 400, "bad-request"),
    "too many entries": ("application/msgpack", msgpack.packb({"device": "d", "entries": [0] * 10_001}), 400, "bad-request"),
    "another type": ("text/plain", b"hello", 415, "unsupported-content-type"),
    "too large": ("application/msgpack", bytes(16 * MIB + 1), 413, "request-entity-too-large"),
}


@pytest.mark.parametrize(("kind", "body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_push_is_a_problem_with_a_code(
    http: aiohttp.ClientSession, node: ServerProcess, kind: str, body: bytes, status: int, code: str
) -> None:
    async with http.post(f"{node.url}/api/v1/sync", data=io.BytesIO(body), headers={"Content-Type": kind}) as response:
        assert response.content_type == "application/problem+json"
        problem = await response.json()
        assert (response.status, problem["status"], problem["code"]) == (status, status, code)
        assert problem["detail"]


# Memory


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own, for a test that looks at its memory."""
    with ServerProcess(tmp_path / "data", "--max-backlog-bytes", str(MIB)) as process:
        yield process


async def send_much(socket: aiohttp.ClientWebSocketResponse, frames: Callable[[], bytes], size: int) -> int:
    """Send up to `size` bytes and read nothing; how many the server took before it stopped reading."""
    sent = 0
    for number in count():
        if sent >= size:
            break
        frame = frames()
        try:
            async with asyncio.timeout(1.0):
                await socket.send_bytes(frame)
        except (TimeoutError, ConnectionError):
            break
        sent += len(frame)
        if number % 100 == 0:
            # Sending awaits nothing while the kernel takes all of it, and others have their part to send.
            await asyncio.sleep(0)
    return sent


async def test_who_sends_and_never_reads_is_bounded_and_nobody_else_notices(
    http: aiohttp.ClientSession, fresh: ServerProcess
) -> None:
    filling = update_of("x" * MIB)
    async with neighbour(http, fresh) as person:
        await push(http, fresh, [{"id": "1", "doc": "large", "update": filling}])
        before = memory(fresh)
        awareness = YWS.awareness("", b"\x01\x01\x01" + write_var_string('"' + "p" * 60_000 + '"'))

        def frames(kind: str) -> Callable[[], bytes]:
            clock = iter(range(1, 1 << 30))
            if kind == "joins from everywhere":
                return lambda: YWS.step1("", b"\x01" + write_var_uint(next(clock)) + b"\x01")
            if kind == "questions":
                return lambda: b"\x03"
            return lambda: YWS.update("", filling)

        mute = [await raw_socket(http, fresh, "large") for _ in range(3)]
        for socket in mute:
            # At once: who says nothing for a while is closed, and what follows keeps this process busy.
            await socket.send_bytes(awareness)
        work: list[Awaitable[int]] = [
            send_much(mute[0], frames("joins from everywhere"), 200_000),
            send_much(mute[1], frames("questions"), 200_000),
            send_much(mute[2], frames("duplicates"), 100 * MIB),
        ]
        sending = asyncio.gather(*work)
        for _ in range(5):
            await person.works()
        await sending
        await person.works()
        grown = memory(fresh) - before
        assert grown < 150 * MIB, f"{grown / MIB:.0f} MiB"
        for socket in mute:
            transport_of(socket).abort()


async def raw_socket(http: aiohttp.ClientSession, server: ServerProcess, document: str) -> aiohttp.ClientWebSocketResponse:
    """A WebSocket whose client takes nothing from the kernel after the handshake."""
    socket = await http.ws_connect(f"{server.url}/ws/{document}", max_msg_size=0, autoping=False)
    transport_of(socket).pause_reading()
    return socket


async def test_ten_thousand_rooms_opened_once_leave_no_trace_in_memory(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", "--max-rooms", "1000") as server:
        async with neighbour(http, server) as person:
            await open_rooms(http, server, "warm", 1000)
            before = memory(server)
            for turn in range(20):
                await open_rooms(http, server, f"{turn}", 500)
                await person.works()
            grown = memory(server) - before
            assert grown < 40 * MIB, f"{grown / MIB:.0f} MiB"
        async with http.get(f"{server.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        assert float(next(line for line in lines if line.startswith("ebbtide_rooms ")).split()[1]) <= 1000


async def open_rooms(http: aiohttp.ClientSession, server: ServerProcess, prefix: str, count: int) -> None:
    """Open documents once: half by asking for them, the rest over one socket that leaves each."""
    await push(http, server, [], pull={f"{prefix}-{index}": b"\x00" for index in range(count // 2)})
    async with http.ws_connect(f"{server.url}/collab") as socket:
        for index in range(count // 2, count):
            name = write_var_string(f"{prefix}-{index}")
            await socket.send_bytes(name + b"\x02\x00" + write_var_string(""))
            await socket.send_bytes(name + b"\x00\x00" + write_var_bytes(b"\x00"))
            while not (await socket.receive_bytes()).startswith(name + b"\x00\x01"):
                pass
            await socket.send_bytes(name + b"\x07")


async def test_pulls_that_nobody_reads_hold_little_memory(http: aiohttp.ClientSession, fresh: ServerProcess) -> None:
    loop = asyncio.get_running_loop()
    async with neighbour(http, fresh) as person:
        for number in range(4):
            await push(http, fresh, [{"id": str(number), "doc": "large", "update": update_of("x" * 2 * MIB)}])
        await push(http, fresh, [], pull={"large": b"\x00"})
        before = memory(fresh)
        bodies = [
            ("application/msgpack", msgpack.packb({"device": "d", "pull": {"large": b"\x00"}})),
            ("application/json", b'{"device": "d", "pull": {"large": "AA=="}}'),
        ]
        with ExitStack() as stack:
            for kind, body in bodies * 15:
                mute = stack.enter_context(create_connection(("127.0.0.1", fresh.port)))
                mute.setblocking(False)
                head = f"POST /api/v1/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
                await loop.sock_sendall(mute, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                async with asyncio.timeout(PATIENCE):
                    assert await loop.sock_recv(mute, 12) == b"HTTP/1.1 200"
            await person.works()
            grown = memory(fresh) - before
            assert grown < 60 * MIB, f"{grown / MIB:.0f} MiB"


@asynccontextmanager
async def half_sent(server: ServerProcess, size: int) -> AsyncIterator[asyncio.StreamReader]:
    """A push that stops after `size` of its bytes."""
    port = int(server.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/v1/sync HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/msgpack\r\n"
    writer.write(f"{head}Content-Length: {size + 1}\r\n\r\n".encode() + bytes(size))
    try:
        yield reader
    finally:
        writer.close()


async def test_pushes_that_never_end_keep_nobody_out_and_are_given_up(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    size = MIB - 1000
    edit: dict[str, object] = {"id": "1", "doc": "honest", "update": update_of("x" * 100_000)}
    with ServerProcess(tmp_path, "--max-push-bytes", "1MiB", "--handshake-seconds", "3") as node:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            before = memory(node)
            slow = [await stack.enter_async_context(half_sent(node, size)) for _ in range(40)]
            answers = [asyncio.ensure_future(reader.readline()) for reader in slow]
            await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert (await push(http, node, [edit]))["receipts"][0]["status"] == "applied"
            codes = Counter([(await answer).split()[1] for answer in answers])
            # Those that there was no room for beside the others, and those that stood still.
            assert set(codes) == {b"503", b"408"}
            assert codes[b"408"] <= 8
            assert memory(node) - before < 60 * MIB


async def test_who_was_granted_nothing_is_closed_whatever_he_says(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    arguments = ("--handshake-seconds", "1", "--max-update-bytes", "1MiB")
    with ServerProcess(tmp_path, *arguments, open_to_all=False, environ={"EBBTIDE_TOKEN_SECRET": SECRET}) as node:
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            edit = write_var_string("a") + b"\x00\x02" + write_var_bytes(bytes(MIB - 1000))
            for greeting in (b"\x09", edit, write_var_string("a") + b"\x02\x00" + write_var_string("no token")):
                socket = await stack.enter_async_context(http.ws_connect(f"{node.url}/collab"))
                await socket.send_bytes(greeting)
                while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
                assert socket.close_code == 4408, message
            before = memory(node)
            waiting = [await stack.enter_async_context(http.ws_connect(f"{node.url}/collab")) for _ in range(60)]
            for socket in waiting:
                await socket.send_bytes(edit)
            closed = {(await socket.receive()).data for socket in waiting}
            assert closed <= {4408, 1013}
            assert memory(node) - before < 40 * MIB
