"""Pumps messages from a WebSocket to whoever handles them, as fast as they are taken and no faster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from crdt.errors import CrdtError
from server.config import Limits
from server.errors import CloseCode
from server.tokens import TokenError
from server.web.context import CONFIG, COUNTERS, ROOMS, SOCKETS
from server.web.outlet import SocketOutlet
from sync.protocol.errors import MalformedMessage, ProtocolError
from sync.rooms.errors import RoomError

PING_SECONDS = 30.0
"""Between WebSocket pings. Hocuspocus providers 2 and 3 count on one every 30 s; who does not answer is gone."""

FRAME_OVERHEAD = 1024
"""What a message may have beyond the update in it: type, lengths and the address."""

UNREAD_FACTOR = 4
"""Who does not read is not read from either once so many times the backlog limit waits for it ..."""

UNREAD_SECONDS = 30.0
"""... and is dropped when that lasts."""

REFUSALS = (ProtocolError, CrdtError, RoomError, TokenError)
"""What a client can be told; anything else is an error of ours."""

Receive = Callable[[bytes], Awaitable[None] | None]
"""Handles one binary message, at once or in an awaitable. Raises `REFUSALS` to end the connection with the reason."""


async def open_socket(request: web.Request) -> tuple[web.WebSocketResponse, SocketOutlet]:
    """Accept the WebSocket. The caller checks the origin before, and hands both to `pump`.

    Raises `ShuttingDown` or `Overloaded` before anything is accepted.
    """
    sockets, counters = request.app[SOCKETS], request.app[COUNTERS]
    try:
        sockets.admit()
    except RoomError:
        counters.sockets_refused += 1
        raise
    limits = request.app[CONFIG].limits
    socket = web.WebSocketResponse(
        heartbeat=PING_SECONDS,
        max_msg_size=limits.max_update_bytes + FRAME_OVERHEAD,
        compress=False,
        timeout=5.0,
        decode_text=False,
    )
    await socket.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went during the handshake")
    outlet = SocketOutlet(socket, transport)
    sockets.add(outlet)
    counters.sockets_opened += 1
    return socket, outlet


async def pump(
    request: web.Request, socket: web.WebSocketResponse, outlet: SocketOutlet, receive: Receive, silence: CloseCode
) -> None:
    """Give every binary message to `receive` until the socket ends. `silence` closes a socket on which nothing is said."""
    app = request.app
    limits, rooms, sockets, counters = app[CONFIG].limits, app[ROOMS], app[SOCKETS], app[COUNTERS]
    unread = limits.max_backlog_bytes * UNREAD_FACTOR
    try:
        message = await socket.receive(timeout=limits.handshake_seconds)
        while message.type is WSMsgType.BINARY:
            counters.frames_received += 1
            counters.bytes_received += len(message.data)
            pending = receive(message.data)
            if pending is not None:
                await pending
            if rooms.full:
                await rooms.admit()
            if outlet.backlog() > unread:
                await _read_by_peer(outlet, limits)
            message = await socket.receive()
        if message.type is WSMsgType.TEXT:
            raise MalformedMessage("messages are binary here")
    except TimeoutError:
        outlet.close(silence, "nothing was said on this socket; send the handshake at once")
    except REFUSALS as error:
        counters.sockets_closed_for_errors += 1
        outlet.fail(error)
    finally:
        await outlet.ended()
        sockets.discard(outlet)


async def _read_by_peer(outlet: SocketOutlet, limits: Limits) -> None:
    deadline = asyncio.get_running_loop().time() + UNREAD_SECONDS
    while outlet.backlog() > limits.max_backlog_bytes:
        if asyncio.get_running_loop().time() > deadline:
            outlet.abort()
            return
        await asyncio.sleep(0.05)
