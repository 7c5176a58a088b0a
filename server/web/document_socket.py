"""`WS /ws/{document}`: the y-websocket protocol, one document a socket."""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote_to_bytes

from aiohttp import web

from server.access.rates import Rate
from server.errors import CloseCode
from server.tokens import Claims, TokenError
from server.web.access import check_origin, count, identify
from server.web.context import REVOCATIONS, ROOMS
from server.web.delivery import deliver
from server.web.front import check_named
from server.web.membership import Membership
from server.web.websocket import accept
from sync.protocol.errors import BadDocumentName
from sync.protocol.frame import binary
from sync.protocol.names import check_document_name
from sync.protocol.yws import YWebSocket
from sync.rooms.errors import Forbidden, RoomError
from sync.rooms.peer import Peer
from sync.rooms.room import Room

DIALECT = YWebSocket()

PATH = "/ws/"
"""What precedes the document's name in the path."""

SILENCE = CloseCode.TRY_LATER
"""Not 4408: y-websocket from 3.1 on never comes back after a code from 4400 to 4499."""


async def document_socket(request: web.Request) -> web.Response:
    """Serve one y-websocket provider.

    Who is refused is told so in the protocol (`permission denied`) and with a close code, since browsers do not show a page
    the status of a refused WebSocket. Raises `RateLimited` for who comes too often.
    """
    check_named(request)
    check_origin(request)
    verdict: Claims | TokenError | Forbidden | BadDocumentName
    try:
        # The token first: whatever else is wrong, nobody opens sockets uncounted.
        verdict = await identify(request)
    except TokenError as error:
        verdict = error
    else:
        count(request, Rate.HANDSHAKES, verdict)
    try:
        document = _document(request)
    except BadDocumentName as error:
        document, verdict = "", error
    if isinstance(verdict, Claims) and not verdict.can_read(document):
        verdict = Forbidden("this token may not read the document")
    socket, response = accept(request)
    try:
        if not isinstance(verdict, Claims):
            raise verdict
        peer = Peer(socket, DIALECT, document, author=verdict.subject, can_write=verdict.can_write(document))
        room = request.app[ROOMS].open(document)
        membership = Membership(room, peer, verdict, request.app[REVOCATIONS], refuse=socket.fail)
    except (BadDocumentName, TokenError, RoomError) as error:
        socket.write(binary(DIALECT.denied(document, error.reason)))
        socket.fail(error)
    else:
        receive = partial(_receive, room, peer)

        def first(frame: bytes) -> None:
            socket.welcome()
            socket.serve(receive, SILENCE, membership.end)
            receive(frame)

        socket.serve(first, SILENCE, membership.end)
    return response


def _receive(room: Room, peer: Peer, frame: bytes) -> None:
    update = DIALECT.edit(frame)
    if update is not None:
        room.receive(peer, update)
    else:
        deliver(room, peer, DIALECT.decode(frame, peer.address))


def _document(request: web.Request) -> str:
    """The document that the path names. Raises `BadDocumentName`.

    aiohttp leaves what is not UTF-8 as it was written, which is another document's name.
    """
    try:
        name = unquote_to_bytes(request.rel_url.raw_path.removeprefix(PATH)).decode()
    except UnicodeDecodeError:
        raise BadDocumentName from None
    return check_document_name(name)
