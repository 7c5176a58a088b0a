"""Live editors: over y-websocket, and over the Hocuspocus protocol."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import aiohttp

from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.lib0 import write_var_string
from sync.protocol.messages import SyncStep1, SyncStep2, SyncUpdate
from sync.protocol.yws import YWebSocket
from tests.faults.editor import Editor

COME_BACK = 0.2
"""Seconds until a lost connection is tried again. Stock clients take 0.1 to 2.5 s."""


class Live(Editor):
    """Writes at a steady pace, connected or not, and comes back whenever the connection was lost.

    Edits made offline go up in the answer to the server's step 1, like a stock provider's. The acknowledgement of that covers
    everything that was written before it.
    """

    _socket: aiohttp.ClientWebSocketResponse | None = None

    async def work(self, until: asyncio.Event) -> None:
        """See `Editor.work`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_connected())
            while not until.is_set():
                update, number = self.write(), self.written - 1
                if self._socket is not None:
                    await self._send_edit(self._socket, update, number)
                with suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), self.PAUSE)

    async def _stay_connected(self) -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.ws_connect(self._address(), max_msg_size=0) as socket:
                        await self._greet(socket)
                        async for message in socket:
                            assert message.type is aiohttp.WSMsgType.BINARY, message
                            await self._hear(socket, message.data)
                        why = f"close {socket.close_code}"
                except aiohttp.WSServerHandshakeError as error:
                    why = f"HTTP {error.status}"
                except (aiohttp.ClientError, OSError) as error:
                    why = type(error).__name__
                self._socket = None
                self.lost(why)
                self.noticed.reconnects += 1
                await asyncio.sleep(COME_BACK)

    async def _synced(self, socket: aiohttp.ClientWebSocketResponse, server_has: bytes) -> None:
        update, numbers = self._doc.get_update(server_has), self.unacknowledged()
        # Edits made from here on go up as they are made.
        self._socket = socket
        await self._send(socket, self._step2(update), numbers, update)

    async def _send_edit(self, socket: aiohttp.ClientWebSocketResponse, update: bytes, number: int) -> None:
        await self._send(socket, self._edit(update), [number], update)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, frame: bytes, numbers: list[int], update: bytes) -> None:
        self._expect(numbers, update)
        # Who reads to the end learns why.
        with suppress(ConnectionError):
            await socket.send_bytes(frame)

    def _address(self) -> str:
        raise NotImplementedError

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        raise NotImplementedError

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, frame: bytes) -> None:
        raise NotImplementedError

    def _edit(self, update: bytes) -> bytes:
        raise NotImplementedError

    def _step2(self, update: bytes) -> bytes:
        raise NotImplementedError

    def _expect(self, numbers: list[int], update: bytes) -> None:
        """An acknowledgement of `update` will be one of these edits."""
        raise NotImplementedError


class WebSocketEditor(Live):
    """Over `/ws`: an acknowledgement is the update coming back."""

    _dialect = YWebSocket()

    def _address(self) -> str:
        return f"{self.url}/ws/{self.document}"

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._expected: dict[bytes, list[int]] = {}
        await socket.send_bytes(self._dialect.step1("", self._doc.get_state()))

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, frame: bytes) -> None:
        if frame[0] != 0:
            return  # presence
        message = self._dialect.decode(frame, "")
        if isinstance(message, SyncStep1):
            await self._synced(socket, message.state_vector)
        elif isinstance(message, SyncUpdate) and message.update in self._expected:
            self.note(self._expected.pop(message.update))
        elif isinstance(message, (SyncUpdate, SyncStep2)):
            self.follow(message.update)

    def _expect(self, numbers: list[int], update: bytes) -> None:
        self._expected.setdefault(update, []).extend(numbers)

    def _edit(self, update: bytes) -> bytes:
        return self._dialect.update("", update)

    def _step2(self, update: bytes) -> bytes:
        return self._dialect.step2("", update)


class QuietEditor(WebSocketEditor):
    """Writes so seldom that its document leaves the node's memory in between."""

    PAUSE = 2.5


class CollabEditor(Live):
    """Over `/collab`: an acknowledgement is a SyncStatus, one for each message in their order."""

    _dialect = Hocuspocus()

    def _address(self) -> str:
        return f"{self.url}/collab"

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._expected: deque[list[int]] = deque()
        self._status = self._dialect.acknowledged(self.document, b"")
        self._prefix = write_var_string(self.document)
        await socket.send_bytes(self._prefix + b"\x02\x00" + write_var_string(""))
        await socket.send_bytes(self._dialect.step1(self.document, self._doc.get_state()))

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, frame: bytes) -> None:
        if frame == self._status:
            self.note(self._expected.popleft())
            return
        if frame.startswith(self._prefix + b"\x02\x01"):
            self.noticed.errors["denied"] += 1
            await socket.close()
        if frame[len(self._prefix)] != 0:
            return  # presence, or that the document is granted
        message = self._dialect.decode(frame, self.document)
        if isinstance(message, SyncStep1):
            await self._synced(socket, message.state_vector)
        elif isinstance(message, (SyncUpdate, SyncStep2)):
            self.follow(message.update)

    def _expect(self, numbers: list[int], update: bytes) -> None:
        self._expected.append(numbers)

    def _edit(self, update: bytes) -> bytes:
        return self._dialect.update(self.document, update)

    def _step2(self, update: bytes) -> bytes:
        return self._dialect.step2(self.document, update)
