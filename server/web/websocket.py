"""A WebSocket on its transport: pumps messages to whoever handles them, as fast as they are taken and no faster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from aiohttp import web

from server.errors import CloseCode
from server.web.connection import Connection
from server.web.context import ROOMS, SOCKETS
from server.web.handshake import accept_key, take_over
from server.web.pace import PACE_BYTES, Pace
from server.web.sockets import Sockets
from server.web.uptake import Uptake, uptake
from sync.protocol.frame import Opcode, control
from sync.protocol.frame_reader import Control, FrameReader
from sync.rooms.pending import PendingBytes

FRAME_OVERHEAD = 1024
"""What a message may have beyond the update in it: type, lengths and the address."""

UNREAD_FACTOR = 4
"""Who does not read is not read from either once so many times the backlog limit waits for it."""

Receive = Callable[[bytes], Awaitable[None] | None]
"""Handles one binary message, at once or in an awaitable. Raises one of `connection.REFUSALS` to end the connection with the
reason."""


class WebSocket(Connection):
    """A connection, and what is done with the messages that it brings."""

    __slots__ = (
        "_asked",
        "_begun",
        "_beside",
        "_heard",
        "_held",
        "_pending",
        "_reader",
        "_receive",
        "_sockets",
        "_unread",
        "_unread_limit",
        "_waiting",
        "_work",
    )

    def __init__(self, app: web.Application) -> None:
        super().__init__(app)
        self._pending: PendingBytes = app[ROOMS].pending
        self._sockets: Sockets = app[SOCKETS]
        self._unread_limit = self._limits.max_backlog_bytes * UNREAD_FACTOR
        self._reader = FrameReader(self._limits.max_update_bytes + FRAME_OVERHEAD)
        self._receive: Receive = _ignore
        # What is done about a message that takes a while, and what was read meanwhile.
        self._work: asyncio.Task[None] | None = None
        self._unread: list[bytes] = []
        # What is done while reading goes on.
        self._beside: set[asyncio.Task[None]] = set()
        # Bytes that the node counts as held for this socket, and the part of them that waits for a token.
        self._held = 0
        self._waiting = 0
        # At the last ping: whether anything came since, how far the peer was, and what had come of an unfinished message.
        self._heard = True
        self._asked = Uptake(0, 0)
        self._begun = 0

    def serve(self, receive: Receive, silence: CloseCode, ended: Callable[[], None] | None = None) -> None:
        """Give every binary message to `receive`, and call `ended` once when the connection is over.

        `silence` closes a socket that is not `welcome` in time. To be called before anything can have come.
        """
        self._receive = receive
        self._silence = silence
        self._ended = ended

    def wait_for_token(self, size: int) -> None:
        """Count `size` bytes of messages as waiting for a token, in place of those before."""
        self._waiting = size
        self._count_held()

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while reading goes on. It ends with the connection, and the connection with what it raises.

        Nothing of it is done once the connection begins to close.
        """
        if self._closing:
            work.close()
            return
        task = self._loop.create_task(self._do_beside(work))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def done_beside(self) -> Awaitable[None] | None:
        """What to await until some work that is done beside reading is done; None when there is none."""
        return self._some_done(self._beside) if self._beside else None

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `Connection.connection_made`; from here on the socket counts as open."""
        super().connection_made(transport)
        self._sockets.add(self)

    def data_received(self, data: bytes) -> None:
        """Handle what came, or keep it until what is under way is done."""
        self._heard = True
        if self._work is not None:
            self._unread.append(data)
            return
        if self._pending.full and not self._closing:
            # Other sockets filled the node since this one looked.
            self._unread.append(data)
            self._wait(self._relieved(), iter(()))
            return
        counters = self._counters
        counters.bytes_received += len(data)
        try:
            messages = self._reader.short(data)
            if messages is None:
                self._handle_all(self._reader.read(data))
                self._count_held()
                return
            counters.frames_received += len(messages)
            rest = iter(messages)
            for message in rest:
                work = self._receive(message)
                if work is not None:
                    self._wait(work, rest)
                    return
            self._wait_if_full()
        except Exception as error:
            self._give_up(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `Connection.connection_lost`; nothing more is done about what came."""
        if self._work is not None:
            self._work.cancel()
        self._sockets.discard(self)
        super().connection_lost(exc)

    # Messages

    def _handle_all(self, messages: Iterator[bytes | Control]) -> None:
        for message in messages:
            work = self._handle(message)
            if work is None and self._pending.full and not self._closing:
                work = self._pending.admit()
            if work is not None:
                self._wait(work, messages)
                return
        self._wait_if_full()

    def _handle(self, message: bytes | Control) -> Awaitable[None] | None:
        """Hand the message on; what has to be awaited before the next one is looked at."""
        if isinstance(message, Control):
            self._control(message)
            return None
        self._counters.frames_received += 1
        self._begun = 0
        if self._held != self._waiting:
            # What was held of this message; what comes of the next is held anew.
            self._held = self._waiting
            self._sockets.hold(self, self._held)
        return self._receive(message)

    def _control(self, frame: Control) -> None:
        if frame.opcode == Opcode.PING:
            self.write(control(Opcode.PONG, frame.payload))
        elif frame.opcode == Opcode.CLOSE:
            self._closed_by_peer(frame)

    def _count_held(self) -> None:
        held = self._reader.held + self._waiting
        if held != self._held:
            self._held = held
            self._sockets.hold(self, held)

    def _wait_if_full(self) -> None:
        if not self._closing and (self._pending.full or self.backlog() > self._unread_limit):
            self._wait(self._relieved(), iter(()))

    def _wait(self, work: Awaitable[None], messages: Iterator[bytes | Control]) -> None:
        self._transport.pause_reading()
        self._work = self._loop.create_task(self._go_on(work, messages))

    async def _go_on(self, work: Awaitable[None], messages: Iterator[bytes | Control]) -> None:
        try:
            await work
            while True:
                for message in messages:
                    more = self._handle(message)
                    if more is not None:
                        await more
                    if self._pending.full and not self._closing:
                        await self._pending.admit()
                await self._relieved()
                if not self._unread:
                    break
                messages = self._reader.read(b"".join(self._unread))
                self._unread.clear()
            self._count_held()
        except Exception as error:
            self._give_up(error)
        self._work = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._give_up(error)

    @staticmethod
    async def _some_done(tasks: set[asyncio.Task[None]]) -> None:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _relieved(self) -> None:
        """Return when the node can take more edits, and when the peer has read enough of what it was sent.

        A peer that does not keep pace with that is dropped.
        """
        await self._pending.admit()
        enough = self._limits.max_backlog_bytes
        if self.backlog() <= self._unread_limit or self._transport.is_closing():
            return
        pace = Pace(uptake(self._transport).taken, self._loop.time())
        while self.backlog() > enough:
            await asyncio.sleep(0.05)
            if self._closing or self._transport.is_closing():
                return
            now = self._loop.time()
            pace.move(uptake(self._transport).taken, now)
            if now > pace.deadline:
                self.abort()
                return

    # Ends

    def evict(self, error: Exception) -> None:
        """Close with the error's code, and let go at once of all that is held for the peer. Nothing more is read."""
        self.fail(error)
        self._reader = FrameReader(0)
        self._unread.clear()
        self._waiting = self._held = 0
        self._hang_up()

    def ping(self) -> bool:
        """Ask whether the peer is there; see `OpenSocket.ping`.

        A peer that takes in much has the last ping still before it: then it is there if it keeps pace with that.
        """
        if self._closing or self._transport.is_closing():
            return True
        asked, self._asked = self._asked, uptake(self._transport)
        took = self._asked.taken - asked.taken
        there = self._heard or self._work is not None or took >= min(asked.waiting, PACE_BYTES) > 0
        self._heard = False
        self.write(control(Opcode.PING))
        self._hurry()
        return there

    def _hurry(self) -> None:
        """Refuse a message that was under way at the last ping, and of which little came since though it was read."""
        begun, self._begun = self._begun, 0 if self._work else self._reader.held
        if 0 < begun <= self._begun < begun + PACE_BYTES:
            self.close(CloseCode.TRY_LATER, "a message came too slowly; connect again, and send less at a time")

    def _shut(self) -> None:
        """What still comes is of no interest either."""
        super()._shut()
        self._receive = _ignore
        for task in self._beside:
            task.cancel()


def accept(request: web.Request) -> tuple[WebSocket, web.Response]:
    """Accept the WebSocket. The caller checks the origin before, says at once whom it serves, and returns the response.

    Raises `ShuttingDown` or `Overloaded` when no further one is taken, `HTTPBadRequest` when the request is no handshake, and
    `ClientGone` when nobody waits for its answer any more.
    """
    key = accept_key(request)
    request.app[SOCKETS].admit()
    socket = WebSocket(request.app)
    return socket, take_over(request, key, socket)


def _ignore(message: bytes) -> None:
    """Nobody is served."""
