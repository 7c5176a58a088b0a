"""A WebSocket's connection: how it begins, what is written to it, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from aiohttp import web

from crdt.errors import CrdtError
from server.access.errors import AccessError
from server.config import Limits
from server.errors import CloseCode, answer
from server.metrics import Counters
from server.tokens import TokenError
from server.web.context import CONFIG, COUNTERS
from sync.protocol.errors import ProtocolError
from sync.protocol.frame import Opcode, close, control
from sync.protocol.frame_reader import Control
from sync.rooms.errors import RoomError

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
"""How long a peer may take to answer a close frame, all that it has not read before it included."""

REFUSALS = (ProtocolError, CrdtError, RoomError, TokenError, AccessError)
"""What a client can be told; anything else is an error of ours."""

PASSING = (CloseCode.RESTART, CloseCode.TRY_LATER)
"""Codes for what passes by itself. All sockets may get them at once, so each is no line of a log."""


class Connection(asyncio.Protocol):
    """An `Outlet` for rooms on one side, the closing handshake of RFC 6455 on the other; `WebSocket` adds what comes in.

    `write` and `backlog` are the transport's own methods while the connection is open.
    """

    __slots__ = (
        "_closing",
        "_counters",
        "_ended",
        "_limits",
        "_loop",
        "_silence",
        "_timer",
        "_transport",
        "backlog",
        "write",
    )

    def __init__(self, app: web.Application) -> None:
        self._limits: Limits = app[CONFIG].limits
        self._counters: Counters = app[COUNTERS]
        self._loop = asyncio.get_running_loop()
        self._ended: Callable[[], None] | None = None
        self._silence = CloseCode.TRY_LATER
        self._transport: asyncio.Transport
        # Ends a peer that says nothing at first, and one that does not answer a close frame.
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.write: Callable[[bytes], None] = _discard
        """See `Outlet.write`."""
        self.backlog: Callable[[], int] = _nothing
        """See `Outlet.backlog`."""

    def welcome(self) -> None:
        """The peer has shown that it is one: its socket may stay open. Idempotent."""
        if self._timer is not None and not self._closing:
            self._timer.cancel()
            self._timer = None

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ours: start to wait for the first message."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        self.backlog = self._transport.get_write_buffer_size
        self._timer = self._loop.call_later(self._limits.handshake_seconds, self._says_nothing)
        self._counters.sockets_opened += 1

    def eof_received(self) -> None:
        """The transport closes itself: nobody half-closes a WebSocket."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection is over: call `ended`, and let go of everything."""
        self._shut()
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def pause_writing(self) -> None:
        """Rooms look at the backlog themselves."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

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

    def _shut(self) -> None:
        """Nothing is written after a close frame."""
        self._closing = True
        self.write = _discard
        self.backlog = _nothing

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

    def _closed_by_peer(self, frame: Control) -> None:
        """A close frame came: answer it, unless it is the answer to ours."""
        if not self._closing:
            self.write(control(Opcode.CLOSE, frame.payload[:2]))
        self._shut()
        self._hang_up()

    def _give_up(self, error: Exception) -> None:
        """End the connection with what went wrong, which is one of `REFUSALS` or an error of ours."""
        if not isinstance(error, REFUSALS):
            log.error("message not handled", exc_info=error)
        self.fail(error)
        if answer(error).close_code == CloseCode.FRAMING:
            # Where the next frame begins is not known, so neither is where the peer's close frame would.
            self._hang_up()


def _discard(data: bytes) -> None:
    """The connection has ended, or will once its close frame is answered."""


def _nothing() -> int:
    return 0
