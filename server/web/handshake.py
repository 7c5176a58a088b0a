"""Turns an aiohttp request into a WebSocket whose transport is ours (RFC 6455, section 4.2).

aiohttp's own WebSocket hands each message over through a queue and a task of its own, and keeps request, parser and
task in memory as long as the socket is open. A sync server's sockets are many and mostly idle, and their messages small,
so the transport changes hands after the handshake.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib

from aiohttp import hdrs, web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


class ClientGone(Exception):
    """The client left during the handshake. Nobody is there to be answered, and nothing is wrong with the server."""


def accept_key(request: web.Request) -> str:
    """The proof that the handshake was understood. Raises `HTTPBadRequest` when the request is none."""
    headers = request.headers
    upgrades = {each.strip().lower() for each in headers.get(hdrs.CONNECTION, "").split(",")}
    if headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket" or "upgrade" not in upgrades:
        raise web.HTTPBadRequest(reason="this address speaks WebSocket; connect with ws:// or wss://")
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION) != _VERSION:
        raise web.HTTPBadRequest(reason="version 13 of WebSocket is spoken here")
    key = headers.get(hdrs.SEC_WEBSOCKET_KEY, "").strip()
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise web.HTTPBadRequest(reason="Sec-WebSocket-Key is not 16 bytes of base64")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def take_over(request: web.Request, key: str, protocol: asyncio.Protocol) -> web.Response:
    """Answer the handshake and give the request's transport to `protocol`.

    The handler returns the response at once; aiohttp cannot send it, since for aiohttp the connection is over. Raises
    `ClientGone` when it is over indeed.
    """
    transport, http = request.transport, request.protocol
    if transport is None or transport.is_closing():
        raise ClientGone
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {key}")
    transport.write("\r\n".join((*lines, "", "")).encode())
    transport.set_protocol(protocol)
    # Without its transport aiohttp lets go of all that it has for the connection, and closes nothing.
    http.transport = None
    http.connection_lost(None)
    protocol.connection_made(transport)
    return web.Response(status=101)
