"""Several server processes on one MongoDB and one Redis: what one takes the other's clients see, Redis or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pycrdt
import pytest

from sync.protocol.lib0 import write_var_string, write_var_uint
from sync.protocol.yws import YWebSocket
from tests.harness.mongod import ReplicaSet
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess

PATIENCE = 30.0
YWS = YWebSocket()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[list[ServerProcess]]:
    folder = tmp_path_factory.mktemp("nodes")
    with ReplicaSet(folder / "mongo") as replica_set:
        arguments = ("--store", replica_set.url("ebbtide"), "--bus", redis.url)
        with ServerProcess(folder / "a", *arguments) as one, ServerProcess(folder / "b", *arguments) as two:
            yield [one, two]


class Person:
    """Somebody with a document open on one node."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._text = self._doc.get("text", type=pycrdt.Text)
        self.heard: list[bytes] = []

    async def open(self) -> None:
        await self._socket.send_bytes(YWS.step1("", self._doc.get_state()))

    async def writes(self, text: str) -> None:
        """Write, and return when it is durable."""
        before = self._doc.get_state()
        self._text += text
        frame = YWS.update("", self._doc.get_update(before))
        await self._socket.send_bytes(frame)
        async with asyncio.timeout(PATIENCE):
            while await self._next() != frame:
                pass

    async def reads(self, text: str) -> None:
        """Return when the text has `text` in it."""
        async with asyncio.timeout(PATIENCE):
            while text not in str(self._text):
                await self._next()

    async def hears(self, frame: bytes) -> None:
        """Return when the server has sent exactly this. The caller sets a bound."""
        while await self._next() != frame:
            pass

    async def _next(self) -> bytes:
        frame = await self._socket.receive_bytes()
        self.heard.append(frame)
        message = YWS.decode(frame, "")
        update = getattr(message, "update", None)
        if update is not None and frame[0] == 0:
            self._doc.apply_update(update)
        return frame


async def test_edits_cross_nodes_with_and_without_redis(nodes: list[ServerProcess], redis: RedisServer) -> None:
    async with aiohttp.ClientSession() as http:
        sockets = [await http.ws_connect(f"{node.url}/ws/d") for node in nodes]
        ada, bob = map(Person, sockets)
        for person in (ada, bob):
            await person.open()
        await ada.writes("one ")
        await bob.reads("one ")
        redis.kill()
        await bob.writes("two ")
        await ada.reads("two ")
        redis.start()
        for number in range(20):
            await ada.writes(f"{number},")
        await bob.reads("19,")
        for person in (ada, bob):
            await person.writes("end")
        await ada.reads("endend")
        for socket in sockets:
            await socket.close()


async def test_a_node_that_is_killed_loses_nothing_acknowledged(nodes: list[ServerProcess], tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        ada = Person(await http.ws_connect(f"{nodes[0].url}/ws/killed"))
        await ada.open()
        for number in range(50):
            await ada.writes(f"{number},")
        nodes[0].kill()
        bob = Person(await http.ws_connect(f"{nodes[1].url}/ws/killed"))
        await bob.open()
        await bob.reads("".join(f"{number}," for number in range(50)))
        nodes[0].start()


async def test_who_was_on_a_node_that_died_is_gone_within_35_seconds(nodes: list[ServerProcess], redis: RedisServer) -> None:
    here = b"\x01" + write_var_uint(7) + write_var_uint(1) + write_var_string('{"name":"ada"}')
    gone = b"\x01" + write_var_uint(7) + write_var_uint(1) + write_var_string("null")
    async with aiohttp.ClientSession() as http:
        ada = await http.ws_connect(f"{nodes[0].url}/ws/presence")
        bob = Person(await http.ws_connect(f"{nodes[1].url}/ws/presence"))
        await bob.open()
        await ada.send_bytes(YWS.step1("", pycrdt.Doc().get_state()))
        await ada.send_bytes(YWS.awareness("", here))
        async with asyncio.timeout(PATIENCE):
            await bob.hears(YWS.awareness("", here))
        nodes[0].kill()
        try:
            async with asyncio.timeout(35):
                await bob.hears(YWS.awareness("", gone))
        finally:
            nodes[0].start()
