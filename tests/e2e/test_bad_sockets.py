"""What a socket is closed for: frames that are no messages, a foreign page, and silence. Everyone else's work goes on."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_string
from tests.e2e.kit import BLANK_STEP_1, MIB, YWS, end_of, neighbour, transport_of, update_of
from tests.harness.server_process import ServerProcess

HOCUSPOCUS = Hocuspocus()


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
