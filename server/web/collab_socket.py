"""`WS /collab`: the Hocuspocus protocol, many documents on a socket, each with a token of its own."""

from __future__ import annotations

from aiohttp import web

from server.config import Limits
from server.tokens import Claims, TokenError, TokenExpired, TokenVerifier
from server.web.access import bearer, check_origin
from server.web.context import CONFIG, ROOMS, VERIFIER
from server.web.delivery import deliver
from server.web.membership import Membership
from server.web.outlet import SocketOutlet
from server.web.websocket import open_socket, pump
from sync.protocol.errors import TooManyDocuments
from sync.protocol.frame import binary
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.messages import AuthToken, CloseDocument, DocumentMessage, Ping, Pong
from sync.protocol.names import document_of
from sync.rooms.errors import Forbidden, RoomError
from sync.rooms.peer import Peer
from sync.rooms.registry import Rooms

DIALECT = Hocuspocus()


async def collab_socket(request: web.Request) -> web.WebSocketResponse:
    """Serve one Hocuspocus provider socket."""
    check_origin(request)
    socket, outlet = await open_socket(request)
    app = request.app
    connection = _Connection(outlet, app[ROOMS], app[VERIFIER], app[CONFIG].limits, bearer(request))
    try:
        await pump(request, socket, outlet, connection.receive)
    finally:
        connection.end()
    return socket


class _DocumentOutlet:
    """Where one document of the socket writes. What fails only this document leaves the socket's others alone."""

    __slots__ = ("_address", "_connection", "_outlet", "backlog", "write")

    def __init__(self, connection: _Connection, address: str) -> None:
        self._connection = connection
        self._address = address
        self._outlet = connection.outlet
        self.write = self._outlet.write
        self.backlog = self._outlet.backlog

    def fail(self, error: Exception) -> None:
        """See `Outlet.fail`."""
        if isinstance(error, RoomError) and not error.transient:
            self._connection.deny(self._address, error.reason)
        else:
            self._outlet.fail(error)


class _Connection:
    """The documents of one socket."""

    def __init__(
        self, outlet: SocketOutlet, rooms: Rooms, verifier: TokenVerifier, limits: Limits, default_token: str
    ) -> None:
        self.outlet = outlet
        self._rooms = rooms
        self._verifier = verifier
        self._limits = limits
        self._default_token = default_token
        self._memberships: dict[str, Membership] = {}
        self._denied: set[str] = set()
        self._last_address = ""

    async def receive(self, frame: bytes) -> None:
        """Handle one message. Raises `ProtocolError`, `CrdtError` or `RoomError` to end the socket."""
        message = DIALECT.decode(frame, self._last_address)
        if isinstance(message, Ping):
            self.outlet.write(binary(DIALECT.pong()))
        elif not isinstance(message, Pong):
            await self._handle(message)

    async def _handle(self, message: DocumentMessage) -> None:
        address = self._last_address = message.address
        if isinstance(message, AuthToken):
            await self._authenticate(address, message.token)
            return
        membership = self._memberships.get(address)
        if isinstance(message, CloseDocument):
            self._leave(address)
            self._denied.discard(address)
        elif membership is not None:
            deliver(membership.room, membership.peer, message)
        elif address not in self._denied:
            # Providers before 3.0 without a token begin with step 1 and never authenticate.
            await self._authenticate(address, "")
            membership = self._memberships.get(address)
            if membership is not None:
                deliver(membership.room, membership.peer, message)

    async def _authenticate(self, address: str, token: str) -> None:
        document = document_of(address)
        try:
            claims = await self._verifier.verify(token or self._default_token)
            if not claims.can_read(document):
                raise Forbidden("this token may not read the document")
            self._admit(address, document, claims)
        except (TokenError, Forbidden) as error:
            self.deny(address, error.reason)

    def _admit(self, address: str, document: str, claims: Claims) -> None:
        self._denied.discard(address)
        membership = self._memberships.get(address)
        can_write = claims.can_write(document)
        granted = binary(DIALECT.granted(address, can_write))
        if membership is not None and not membership.room.failed:
            membership.hold(claims)
            self.outlet.write(granted)
            return
        self._leave(address)
        if len(self._memberships) >= self._limits.max_socket_documents:
            raise TooManyDocuments(self._limits.max_socket_documents)
        room = self._rooms.open(document)
        self.outlet.write(granted)
        peer = Peer(_DocumentOutlet(self, address), DIALECT, address, author=claims.subject, can_write=can_write)
        self._memberships[address] = Membership(
            room,
            peer,
            claims,
            expire=lambda: self.outlet.fail(TokenExpired("the token has expired; connect again with a new one")),
            renew=lambda: self.outlet.write(binary(DIALECT.reauthenticate(address))),
        )

    def deny(self, address: str, reason: str) -> None:
        """The document is not for this client, or cannot be given; the socket stays open for others."""
        self._leave(address)
        self._denied.add(address)
        if len(self._denied) > self._limits.max_socket_documents:
            self.outlet.fail(TooManyDocuments(self._limits.max_socket_documents))
        self.outlet.write(binary(DIALECT.denied(address, reason)))

    def _leave(self, address: str) -> None:
        membership = self._memberships.pop(address, None)
        if membership is not None:
            membership.end()

    def end(self) -> None:
        """The socket is gone."""
        for address in list(self._memberships):
            self._leave(address)
