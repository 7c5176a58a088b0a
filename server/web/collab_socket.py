"""`WS /collab`: the Hocuspocus protocol, many documents on a socket, each with a token of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import partial

from aiohttp import web

from server import errors
from server.access.rates import Rate
from server.errors import CloseCode
from server.tokens import Claims, TokenError, TokenKeyUnavailable
from server.web.access import address_of, bearer, check_origin, count, identify
from server.web.context import CONFIG, COUNTERS, RATES, REVOCATIONS, ROOMS, VERIFIER
from server.web.delivery import deliver
from server.web.membership import Membership
from server.web.websocket import WebSocket, accept
from sync.protocol.frame import binary
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.messages import AuthToken, CloseDocument, Message, Ping, Pong
from sync.protocol.names import document_of
from sync.protocol.session import Session, SessionLimits
from sync.rooms.errors import Forbidden, RoomError
from sync.rooms.peer import Peer

log = logging.getLogger(__name__)

DIALECT = Hocuspocus()


async def collab_socket(request: web.Request) -> web.Response:
    """Serve one Hocuspocus provider socket. Raises `RateLimited` for who comes too often."""
    check_origin(request)
    account = await _account(request)
    socket, response = accept(request)
    connection = _Connection(socket, request, account)
    socket.serve(connection.receive, CloseCode.HANDSHAKE_TIMEOUT, connection.end)
    return response


async def _account(request: web.Request) -> str | None:
    """The account that the request's own token names, counted; None when the documents' tokens are to name it."""
    app = request.app
    if not bearer(request) and not app[CONFIG].open:
        app[RATES].take(Rate.UNNAMED_HANDSHAKES, address_of(request))
        return None
    try:
        claims = await identify(request)
    except TokenError:
        # Each document that has no better token is told so.
        return None
    count(request, Rate.HANDSHAKES, claims)
    return claims.subject


class _DocumentOutlet:
    """Where one document of the socket writes. What fails only this document leaves the socket's others alone."""

    __slots__ = ("_address", "_connection", "_outlet")

    def __init__(self, connection: _Connection, address: str) -> None:
        self._connection = connection
        self._address = address
        self._outlet = connection.outlet

    def write(self, data: bytes) -> None:
        """See `Outlet.write`."""
        self._outlet.write(data)

    def backlog(self) -> int:
        """See `Outlet.backlog`."""
        return self._outlet.backlog()

    def fail(self, error: Exception) -> None:
        """See `Outlet.fail`."""
        if isinstance(error, RoomError) and not error.transient:
            self._connection.shut(self._address, error)
        else:
            self._outlet.fail(error)


class _Connection:
    """The documents of one socket."""

    def __init__(self, outlet: WebSocket, request: web.Request, account: str | None) -> None:
        app = request.app
        self.outlet = outlet
        self._rooms = app[ROOMS]
        self._verifier = app[VERIFIER]
        self._revocations = app[REVOCATIONS]
        self._rates = app[RATES]
        self._counters = app[COUNTERS]
        self._default_token = bearer(request)
        self._address = address_of(request)
        # The account that the socket was counted for last.
        self._account = account
        limits = SessionLimits(documents=app[CONFIG].limits.max_socket_documents)
        self._session = Session(DIALECT, limits, anonymous=True)
        self._memberships: dict[str, Membership] = {}
        self._held = 0

    def receive(self, frame: bytes) -> Awaitable[None] | None:
        """Handle one WebSocket message. Tokens are checked beside it, so that no document waits for another's.

        Returns what to await before the next one when much waits for tokens. Raises `ProtocolError`, `CrdtError` or
        `RoomError` to end the socket.
        """
        ready = self._session.receive(frame)
        if self._session.held != self._held:
            self._count_held()
        self._handle(ready)
        return self.outlet.done_beside() if self._held and self._session.crowded else None

    def _handle(self, ready: list[Message]) -> None:
        for message in ready:
            if isinstance(message, AuthToken):
                self.outlet.beside(self._let_in(message))
            elif isinstance(message, Ping):
                self.outlet.write(binary(DIALECT.pong()))
            elif isinstance(message, CloseDocument):
                self._leave(message.address)
            elif not isinstance(message, Pong):
                membership = self._memberships.get(message.address)
                if membership is not None:
                    deliver(membership.room, membership.peer, message)

    async def _let_in(self, token: AuthToken) -> None:
        # From the verdict on nothing is awaited: a token that was good is so when its document is granted.
        self._handle(await self._authenticate(token.address, token.token))

    async def _authenticate(self, address: str, token: str) -> list[Message]:
        document = document_of(address)
        try:
            claims = await self._verifier.verify(token or self._default_token)
            self._count(claims.subject)
            if not claims.can_read(document):
                raise Forbidden("this token may not read the document")
        except (TokenError, Forbidden) as error:
            if isinstance(error, TokenError):
                self._rates.take(Rate.REFUSALS, self._address)
            if isinstance(error, TokenKeyUnavailable):
                raise
            self._leave(address)
            self._deny(address, error)
            waited = self._session.deny(address)
        else:
            self._admit(address, document, claims)
            self.outlet.welcome()
            waited = self._session.grant(address)
        self._count_held()
        return waited

    def _count(self, account: str) -> None:
        if account != self._account:
            self._rates.take(Rate.HANDSHAKES, account)
            self._account = account

    def _count_held(self) -> None:
        self._held = self._session.held
        self.outlet.wait_for_token(self._held)

    def _admit(self, address: str, document: str, claims: Claims) -> None:
        can_write = claims.can_write(document)
        granted = binary(DIALECT.granted(address, can_write))
        membership = self._memberships.get(address)
        if membership is not None:
            self.outlet.write(granted)
            membership.hold(claims)
            return
        room = self._rooms.open(document)
        self.outlet.write(granted)
        peer = Peer(_DocumentOutlet(self, address), DIALECT, address, author=claims.subject, can_write=can_write)
        self._memberships[address] = Membership(
            room,
            peer,
            claims,
            self._revocations,
            refuse=partial(self._refuse, address),
            renew=lambda: self.outlet.write(binary(DIALECT.reauthenticate(address))),
        )

    def shut(self, address: str, error: RoomError) -> None:
        """The document cannot be given to this client now; the socket stays open for others."""
        self._leave(address)
        self._session.close(address)
        self._deny(address, error)

    def _deny(self, address: str, error: TokenError | RoomError) -> None:
        code = errors.code(error)
        self._counters.documents_denied[code] += 1
        log.info("document denied", extra={"code": code, "reason": error.reason})
        self.outlet.write(binary(DIALECT.denied(address, error.reason)))

    def _refuse(self, address: str, error: TokenError) -> None:
        """A token ended. The whole socket does, since stock clients ask for new tokens only when they connect again."""
        self._leave(address)
        self.outlet.fail(error)

    def _leave(self, address: str) -> None:
        membership = self._memberships.pop(address, None)
        if membership is not None:
            membership.end()

    def end(self) -> None:
        """The socket is gone."""
        for address in list(self._memberships):
            self._leave(address)
