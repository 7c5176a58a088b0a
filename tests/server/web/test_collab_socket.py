"""Tokens are checked beside a socket's messages: nothing waits for another document's token, and no check leaves a gap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import jwt
import pytest
from aiohttp import web

from server.access.revocations import Kind, Revocation
from server.tokens import SignedTokens, SigningKey
from server.web.context import REVOCATIONS, ROOMS, SOCKETS, VERIFIER
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_string
from sync.rooms.errors import ShuttingDown
from tests.server.web.kit import PATIENCE, Running, running, until
from tests.sync.rooms.kit import edits, text_of

SECRET = "a secret that is only ever used by this test"
DIALECT = Hocuspocus()


class Keys:
    """One key, which is found at once but for the key id `slow`: that waits until `found`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.found = asyncio.Event()

    async def key(self, key_id: str | None) -> SigningKey:
        if key_id == "slow":
            self.asked.set()
            await self.found.wait()
        return SigningKey(SECRET, "HS256")

    async def close(self) -> None:
        pass


class Stage:
    """A server, its keys, and the time that it believes it is."""

    def __init__(self, server: Running, keys: Keys) -> None:
        self.server = server
        self.keys = keys
        self.now = time.time()

    def rooms(self) -> dict[str, int]:
        """The open documents, and how many peers each has."""
        return {room.name: len(room.audience) for room in self.server.app[ROOMS]}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    keys = Keys()
    stage: Stage

    def prepare(app: web.Application) -> None:
        app[VERIFIER] = SignedTokens(keys, app[REVOCATIONS].check, now=lambda: stage.now)

    environ = {"EBBTIDE_TOKEN_SECRET": SECRET}
    async with running(tmp_path, "--max-socket-documents", "400", environ=environ, prepare=prepare) as server:
        stage = Stage(server, keys)
        yield stage


@pytest.fixture
async def socket(stage: Stage) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with stage.server.http.ws_connect(f"{stage.server.url}/collab") as socket:
        yield socket


def auth(document: str, *, key_id: str = "quick", role: str = "editor", life: float = 600) -> bytes:
    now = time.time()
    claims = {"sub": "ada", "iat": now, "exp": now + life, "documents": {"*": role}}
    token = jwt.encode(claims, SECRET, "HS256", headers={"kid": key_id})
    return write_var_string(document) + b"\x02\x00" + write_var_string(token)


async def comes(socket: aiohttp.ClientWebSocketResponse, *frames: bytes) -> None:
    """Return when these have come, in this order, among others."""
    async with asyncio.timeout(PATIENCE):
        for frame in frames:
            while await socket.receive_bytes() != frame:
                pass


async def denied(socket: aiohttp.ClientWebSocketResponse, document: str) -> str:
    """Why the document is denied, once it is."""
    head = write_var_string(document) + b"\x02\x01"
    async with asyncio.timeout(PATIENCE):
        while not (frame := await socket.receive_bytes()).startswith(head):
            pass
    return frame[len(head) + 1 :].decode()


def granted(document: str, can_write: bool = True) -> bytes:
    return DIALECT.granted(document, can_write)


def acknowledged(document: str) -> bytes:
    return DIALECT.acknowledged(document, b"")


async def stored(stage: Stage, document: str) -> str:
    return text_of([entry.update for entry in await stage.server.app[ROOMS].store.read(document, 0, 10_000)])


async def test_a_document_does_not_wait_for_another_s_token(stage: Stage, socket: aiohttp.ClientWebSocketResponse) -> None:
    first, second, third = edits("one", " two", " three")
    await socket.send_bytes(auth("a"))
    await comes(socket, granted("a"))
    await socket.send_bytes(auth("b", key_id="slow"))
    await socket.send_bytes(DIALECT.update("b", first))
    await socket.send_bytes(DIALECT.update("a", first))
    await comes(socket, acknowledged("a"))
    assert not stage.keys.found.is_set()
    await socket.send_bytes(DIALECT.update("b", second))
    stage.keys.found.set()
    await socket.send_bytes(DIALECT.update("b", third))
    await comes(socket, granted("b"), *[acknowledged("b")] * 3)
    assert await stored(stage, "b") == "one two three"


async def test_a_token_that_is_revoked_while_it_is_checked_lets_nobody_in(
    stage: Stage, socket: aiohttp.ClientWebSocketResponse
) -> None:
    await socket.send_bytes(auth("b", key_id="slow"))
    await socket.send_bytes(DIALECT.update("b", edits("x")[0]))
    await stage.keys.asked.wait()
    stage.server.app[REVOCATIONS].add(Revocation(Kind.SUBJECT, "ada", time.time()))
    stage.keys.found.set()
    assert "revoked" in await denied(socket, "b")
    assert not stage.rooms()


async def test_a_token_that_expires_while_it_is_checked_lets_nobody_in(
    stage: Stage, socket: aiohttp.ClientWebSocketResponse
) -> None:
    await socket.send_bytes(auth("b", key_id="slow"))
    await stage.keys.asked.wait()
    stage.now += 700
    stage.keys.found.set()
    assert "expired" in await denied(socket, "b")
    assert not stage.rooms()


async def test_a_document_whose_renewal_is_being_checked_ends_with_the_older_token(
    stage: Stage, socket: aiohttp.ClientWebSocketResponse
) -> None:
    await socket.send_bytes(auth("b"))
    await comes(socket, granted("b"))
    await socket.send_bytes(auth("b", key_id="slow"))
    await stage.keys.asked.wait()
    stage.server.app[REVOCATIONS].add(Revocation(Kind.SUBJECT, "ada", time.time()))
    stage.keys.found.set()
    async with asyncio.timeout(PATIENCE):
        while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            assert message.data != granted("b"), "granted again"
    assert socket.close_code == 4401
    await until(lambda: stage.rooms() == {"b": 0})


@pytest.mark.parametrize("closed_by", ["client", "server"])
async def test_who_is_gone_when_a_token_is_found_good_opens_nothing(
    stage: Stage, socket: aiohttp.ClientWebSocketResponse, closed_by: str
) -> None:
    await socket.send_bytes(auth("b", key_id="slow"))
    await stage.keys.asked.wait()
    if closed_by == "client":
        await socket.close()
        await until(lambda: not len(stage.server.app[SOCKETS]))
    else:
        for each in stage.server.app[SOCKETS]:
            each.fail(ShuttingDown("this node stops"))
    stage.keys.found.set()
    while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
        raise AssertionError(message)
    assert not stage.rooms()


async def test_the_later_of_two_renewals_holds_however_long_the_first_takes(
    stage: Stage, socket: aiohttp.ClientWebSocketResponse
) -> None:
    await socket.send_bytes(auth("b"))
    await socket.send_bytes(auth("b", key_id="slow"))
    await socket.send_bytes(auth("b", role="viewer"))
    await stage.keys.asked.wait()
    stage.keys.found.set()
    await comes(socket, granted("b"), granted("b"), granted("b", False))
    await socket.send_bytes(DIALECT.update("b", edits("x")[0]))
    await comes(socket, DIALECT.refused("b") or b"")
    assert await stored(stage, "b") == ""


async def test_many_documents_and_many_edits_may_follow_their_tokens_at_once(
    stage: Stage, socket: aiohttp.ClientWebSocketResponse
) -> None:
    """Those are more than may wait: reading stops until some are granted."""
    names = [f"{number}" for number in range(300)]
    updates = edits(*["x"] * 3000)
    for name in names:
        await socket.send_bytes(auth(name, key_id="slow" if name == "0" else "quick"))
    for name in names:
        for update in updates[:5]:
            await socket.send_bytes(DIALECT.update(name, update))
    for update in updates[5:]:
        await socket.send_bytes(DIALECT.update("0", update))
    await stage.keys.asked.wait()
    stage.keys.found.set()
    waiting = dict.fromkeys(names, 5) | {"0": len(updates)}
    frames = {acknowledged(name): name for name in names}
    async with asyncio.timeout(PATIENCE):
        while waiting:
            frame = await socket.receive_bytes()
            if frame in frames:
                name = frames[frame]
                waiting[name] -= 1
                if not waiting[name]:
                    del waiting[name]
    assert await stored(stage, "0") == "x" * 3000
