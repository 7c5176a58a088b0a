"""Live sync of one document over the y-websocket protocol (yjs/y-protocols `PROTOCOL.md`).

The socket makes edits quick; what makes them safe is a confirmation. Before a socket is opened, an exchange drains the
outbox with receipts and compares lineages. What is written from then on goes over the socket, and the server sends
each edit back to its author once it is durable. Such an echo counts only on the socket that the edit was first sent on:
after a reconnect the same bytes might come from somebody who relays them, before they are durable again. An echo that
does not come, or an edit that was refused, is settled by one more exchange.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
from pycrdt import (
    YMessageType,
    YSyncMessageType,
    create_sync_message,
    create_update_message,
    handle_sync_message,
    read_message,
)

from ebbtide_client.backoff import Backoff
from ebbtide_client.endpoint import Endpoint
from ebbtide_client.errors import AccessDenied, ClientError, ServerBusy, UnexpectedAnswer, Unreachable
from ebbtide_client.exchange import Exchanges
from ebbtide_client.outbox import Outbox
from ebbtide_client.replica import Replica
from ebbtide_client.settings import Settings
from ebbtide_client.status import Connection
from ebbtide_client.troubles import Troubles

_AUTH = 2
_TOKEN_REFUSED = frozenset({4401, 4403})
_ENDS = frozenset({aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR})
_COME_BACK = frozenset({1012, 1013})
"""Service restart and try again later (IANA WebSocket close codes)."""


class LiveEngine:
    """Keeps one document in sync over a socket, and opens a new one when it goes."""

    def __init__(
        self,
        replica: Replica,
        endpoint: Endpoint,
        outbox: Outbox,
        exchanges: Exchanges,
        troubles: Troubles,
        settings: Settings,
    ) -> None:
        self._replica = replica
        self._endpoint = endpoint
        self._outbox = outbox
        self._exchanges = exchanges
        self._troubles = troubles
        self._settings = settings
        self._backoff = Backoff(settings.first_delay, settings.longest_delay)

    async def run(self) -> None:
        """Go on until cancelled, or until an error that is final, which only the application can settle."""
        replica = self._replica
        while True:
            try:
                replica.show(Connection.CONNECTING, replica.status.problem)
                await self._exchanges.run([replica.name])
                await replica.compact(self._settings.compact_after)
                async with self._endpoint.socket(replica.name) as connection:
                    socket = Socket(connection, replica, self._outbox, self._exchanges, self._settings)
                    await socket.run(self._connected)
                # No trouble yet: sockets come and go, and the next one is tried at once.
                error = self._closed(connection.close_code, socket.close_reason)
            except ClientError as raised:
                error = raised
                self._troubles.failed(replica.name, error)
            replica.show(Connection.OFFLINE, error)
            if error.final:
                return
            await asyncio.sleep(self._backoff.delay(error.retry_after if isinstance(error, ServerBusy) else 0.0))

    def _connected(self) -> None:
        self._backoff.reset()
        self._troubles.reached(self._replica.name)
        self._replica.show(Connection.LIVE)

    def _closed(self, code: int | None, reason: str) -> ClientError:
        if code in _TOKEN_REFUSED:
            self._endpoint.forget_token()
            return AccessDenied(f"the server closed the socket: {reason or 'the token is not good for it'} ({code})")
        if code in _COME_BACK:
            return ServerBusy(f"the server closed the socket: {reason or 'come back later'} ({code})")
        if reason:
            return Unreachable(f"the server closed the socket: {reason} ({code})")
        return Unreachable(f"the connection was lost ({code})")


class Socket:
    """One connection, from the handshake to its end."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        replica: Replica,
        outbox: Outbox,
        exchanges: Exchanges,
        settings: Settings,
    ) -> None:
        self._socket = socket
        self._replica = replica
        self._outbox = outbox
        self._exchanges = exchanges
        self._settings = settings
        self._sent_upto = 0
        self._unechoed: dict[bytes, tuple[float, list[int]]] = {}
        """What was sent and has not come back: since when, and the entries' ids. Oldest first."""
        self._doubtful = asyncio.Event()
        self.close_reason = ""
        """What the server said when it closed the connection, if it did."""

    async def run(self, connected: Callable[[], None]) -> None:
        """Sync until the connection ends. `connected` is called when the replica has all that the server had.

        Raises `ClientError` when the replica or what the server sends does not let it go on.
        """
        tasks = [asyncio.create_task(part) for part in (self._receive(connected), self._send(), self._tend())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, aiohttp.ClientError):
                raise result

    async def _receive(self, connected: Callable[[], None]) -> None:
        await self._socket.send_bytes(create_sync_message(self._replica.ydoc))
        while True:
            message = await self._socket.receive()
            if message.type in _ENDS:
                self.close_reason = str(message.extra or "")
                return
            if message.type is not aiohttp.WSMsgType.BINARY or len(message.data) < 2:
                raise UnexpectedAnswer("the server sent something that is no y-websocket message")
            frame: bytes = message.data
            if frame[0] == YMessageType.SYNC:
                await self._synchronize(frame, connected)
            elif frame[0] == _AUTH:
                # Permission denied: the server does not say for which edit, a receipt does.
                self._doubtful.set()

    async def _synchronize(self, frame: bytes, connected: Callable[[], None]) -> None:
        try:
            payload = read_message(frame[2:])
        except (AssertionError, IndexError, RuntimeError) as error:
            raise UnexpectedAnswer("the server sent a truncated message") from error
        if frame[1] == YSyncMessageType.SYNC_STEP1:
            await self._answer(frame)
        elif frame[1] == YSyncMessageType.SYNC_UPDATE and payload in self._unechoed:
            self._replica.confirm(self._unechoed.pop(payload)[1])
        else:
            self._replica.integrate(payload)
            if frame[1] == YSyncMessageType.SYNC_STEP2:
                connected()

    async def _answer(self, step1: bytes) -> None:
        """Send what the server lacks. All of it is confirmed or in the outbox, unless the server lost something."""
        if self._replica.status.rejected:
            # The difference would hold what was refused, and be refused as a whole.
            return
        try:
            step2 = handle_sync_message(step1[1:], self._replica.ydoc)
        except ValueError as error:
            raise UnexpectedAnswer("the server sent a malformed state vector") from error
        if step2 is not None:
            await self._socket.send_bytes(step2)

    async def _send(self) -> None:
        replica, settings = self._replica, self._settings
        while True:
            replica.outgoing.clear()
            while batch := self._outbox.pending([replica.name], self._sent_upto, settings.batch_entries, settings.batch_bytes):
                for entry in batch:
                    _, ids = self._unechoed.setdefault(entry.update, (time.monotonic(), []))
                    ids.append(entry.id)
                    self._sent_upto = entry.id
                    await self._socket.send_bytes(create_update_message(entry.update))
            await replica.outgoing.wait()

    async def _tend(self) -> None:
        """Settle what no echo settles, and keep the log short."""
        while True:
            await self._replica.compact(self._settings.compact_after)
            try:
                async with asyncio.timeout(self._settings.confirm_after):
                    await self._doubtful.wait()
            except TimeoutError:
                if not self._overdue():
                    continue
            self._doubtful.clear()
            asked = set(self._unechoed)
            await self._exchanges.run([self._replica.name])
            for update in asked:
                self._unechoed.pop(update, None)

    def _overdue(self) -> bool:
        oldest = next(iter(self._unechoed.values()), None)
        return oldest is not None and time.monotonic() - oldest[0] >= self._settings.confirm_after
