"""The sending side of a WebSocket, as rooms see it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from server.errors import answer

CLOSE_REASON_BYTES = 123
"""What fits into a close frame beside the code (RFC 6455, section 5.5)."""


class SocketOutlet:
    """Writes ready-made frames straight to the transport, past aiohttp's own framing: one write for a turn's frames.

    Both write whole frames and nothing is compressed, so they do not mix.
    """

    __slots__ = ("_closing", "_socket", "_transport")

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._socket = socket
        self._transport = transport
        self._closing: asyncio.Task[bool] | None = None

    def write(self, data: bytes) -> None:
        """See `Outlet.write`."""
        if self._closing is None and not self._transport.is_closing():
            self._transport.write(data)

    def backlog(self) -> int:
        """See `Outlet.backlog`."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def fail(self, error: Exception) -> None:
        """See `Outlet.fail`: the connection ends with the error's close code and reason."""
        self.close(answer(error).close_code, getattr(error, "reason", "the server made an error"))

    def close(self, code: int, reason: str) -> None:
        """Begin to close with this code. Idempotent: the first code stands."""
        if self._closing is None:
            message = reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore").encode()
            # Nothing waits for a peer that does not read: it gets the time that closing may take, and no more.
            closing = self._socket.close(code=code, message=message, drain=False)
            self._closing = asyncio.get_running_loop().create_task(closing)

    async def ended(self) -> None:
        """Return when a close that was begun is done. Before that, whoever lets go of the socket takes its code away."""
        if self._closing is not None:
            await self._closing
            if self._transport.get_write_buffer_size():
                self._transport.abort()  # an orderly close would wait for who does not read, for ever

    def abort(self) -> None:
        """Drop the connection and what it has not taken."""
        self._transport.abort()
