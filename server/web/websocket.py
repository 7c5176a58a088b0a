"""A WebSocket on its transport: pumps messages to whoever handles them, as fast as they are taken and no faster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, cast

from aiohttp import web

from crdt.errors import CrdtError
from server.access.errors import AccessError
from server.config import Limits
from server.errors import CloseCode, answer
from server.metrics import Counters
from server.tokens import TokenError
from server.web.context import CONFIG, COUNTERS, ROOMS, SOCKETS
from server.web.handshake import accept_key, take_over
from server.web.pace import PACE_BYTES, Pace
from server.web.sockets import Sockets
from server.web.uptake import Uptake, uptake
from sync.protocol.errors import ProtocolError
from sync.protocol.frame import Opcode, close, control
from sync.protocol.frame_reader import Control, FrameReader
from sync.rooms.errors import RoomError
from sync.rooms.pending import PendingBytes

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
"""How long a peer may take to answer a close frame, all that it has not read before it included."""

FRAME_OVERHEAD = 1024
"""What a message may have beyond the update in it: type, lengths and the address."""

UNREAD_FACTOR = 4
"""Who does not read is not read from either once so many times the backlog limit waits for it."""

REFUSALS = (ProtocolError, CrdtError, RoomError, TokenError, AccessError)
"""What a client can be told; anything else is an error of ours."""

PASSING = (CloseCode.RESTART, CloseCode.TRY_LATER)
"""Codes for what passes by itself. All sockets may get them at once, so each is no line of a log."""

Receive = Callable[[bytes], Awaitable[None] | None]
"""Handles one binary message, at once or in an awaitable. Raises `REFUSALS` to end the connection with the reason."""


class WebSocket(asyncio.Protocol):
    """One connection: an `Outlet` for rooms on one side, RFC 6455 on the other.

    `write` and `backlog` are the transport's own methods while the connection is open.
    """

    __slots__ = (
        "_asked",
        "_begun",
        "_beside",
        "_closing",
        "_counters",
        "_ended",
        "_heard",
        "_held",
        "_limits",
        "_loop",
        "_pending",
        "_reader",
        "_receive",
        "_silence",
        "_sockets",
        "_timer",
        "_transport",
        "_unread",
        "_unread_limit",
        "_waiting",
        "_work",
        "backlog",
        "write",
    )

    def __init__(self, app: web.Application) -> None:
        self._limits: Limits = app[CONFIG].limits
        self._pending: PendingBytes = app[ROOMS].pending
        self._sockets: Sockets = app[SOCKETS]
        self._counters: Counters = app[COUNTERS]
        self._unread_limit = self._limits.max_backlog_bytes * UNREAD_FACTOR
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(self._limits.max_update_bytes + FRAME_OVERHEAD)
        self._receive: Receive = _ignore
        self._ended: Callable[[], None] | None = None
        self._silence = CloseCode.TRY_LATER
        self._transport: asyncio.Transport
        # Ends a peer that says nothing at first, and one that does not answer a close frame.
        self._timer: asyncio.TimerHandle | None = None
        # What is done about a message that takes a while, and what was read meanwhile.
        self._work: asyncio.Task[None] | None = None
        self._unread: list[bytes] = []
        # What is done while reading goes on.
        self._beside: set[asyncio.Task[None]] = set()
        self._closing = False
        # Bytes that the node counts as held for this socket, and the part of them that waits for a token.
        self._held = 0
        self._waiting = 0
        # At the last ping: whether anything came since, how far the peer was, and what had come of an unfinished message.
        self._heard = True
        self._asked = Uptake(0, 0)
        self._begun = 0
        self.write: Callable[[bytes], None] = _discard
        """See `Outlet.write`."""
        self.backlog: Callable[[], int] = _nothing
        """See `Outlet.backlog`."""

    def serve(self, receive: Receive, silence: CloseCode, ended: Callable[[], None] | None = None) -> None:
        """Give every binary message to `receive`, and call `ended` once when the connection is over.

        `silence` closes a socket that is not `welcome` in time. To be called before anything can have come.
        """
        self._receive = receive
        self._silence = silence
        self._ended = ended

    def welcome(self) -> None:
        """The peer has shown that it is one: its socket may stay open. Idempotent."""
        if self._timer is not None and not self._closing:
            self._timer.cancel()
            self._timer = None

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
        """The transport is ours: start to wait for the first message."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        self.backlog = self._transport.get_write_buffer_size
        self._timer = self._loop.call_later(self._limits.handshake_seconds, self._says_nothing)
        self._sockets.add(self)
        self._counters.sockets_opened += 1

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
        except REFUSALS as error:
            self._refuse(error)
        except Exception as error:
            self._fault(error)

    def eof_received(self) -> None:
        """The transport closes itself: nobody half-closes a WebSocket."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection is over: call `ended`, and let go of everything."""
        self._shut()
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()
        self._sockets.discard(self)
        self._end()

    def pause_writing(self) -> None:
        """Rooms look at the backlog themselves."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

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
            if not self._closing:
                self.write(control(Opcode.CLOSE, frame.payload[:2]))
            self._shut()
            self._hang_up()

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
        except REFUSALS as error:
            self._refuse(error)
        except Exception as error:
            self._fault(error)
        self._work = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except REFUSALS as error:
            self._refuse(error)
        except Exception as error:
            self._fault(error)

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

    def fail(self, error: Exception) -> None:
        """See `Outlet.fail`: the connection ends with the error's close code and reason."""
        self.close(answer(error).close_code, getattr(error, "reason", "the server made an error"))

    def close(self, code: int, reason: str) -> None:
        """Begin to close with this code. Idempotent: the first code stands."""
        if self._closing:
            return
        self._counters.sockets_closed[str(int(code))] += 1
        log.log(logging.DEBUG if code in PASSING else logging.INFO, "socket closed", extra={"code": code, "reason": reason})
        self.write(close(code, reason))
        self._shut()
        self._limit_closing()

    def abort(self) -> None:
        """Drop the connection and what it has not taken."""
        self._shut()
        self._transport.abort()

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
        """Nothing is written after a close frame, and what still comes is of no interest."""
        self._closing = True
        self._receive = _ignore
        self.write = _discard
        self.backlog = _nothing
        for task in self._beside:
            task.cancel()

    def _hang_up(self) -> None:
        """Read nothing more, and close the connection once the peer has taken all that was written, if it does in time."""
        self._end()
        self._limit_closing()
        self._transport.close()

    def _end(self) -> None:
        """Whoever was served is told, and holds nothing any more."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def _limit_closing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_SECONDS, self.abort)

    def _says_nothing(self) -> None:
        self.close(self._silence, "nothing was said, or no token accepted, in time; send the handshake at once")

    def _refuse(self, error: Exception) -> None:
        self.fail(error)
        if answer(error).close_code == CloseCode.FRAMING:
            # Where the next frame begins is not known, so neither is where the peer's close frame would.
            self._hang_up()

    def _fault(self, error: Exception) -> None:
        log.error("message not handled", exc_info=error)
        self._refuse(error)


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


def _discard(data: bytes) -> None:
    """The connection has ended, or will once its close frame is answered."""


def _nothing() -> int:
    return 0
