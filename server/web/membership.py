"""One document open on one socket: a peer in a room, until its token expires or is revoked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from server.access.revocations import Admission, Revocations
from server.tokens import Claims, TokenError, TokenExpired, TokenRevoked
from sync.rooms.peer import Grant, Peer
from sync.rooms.room import Room

RENEWAL_SECONDS = 30.0
"""How long before its end a token is asked to be renewed, where the protocol can ask; of a shorter life, the half."""


class Membership:
    """A peer in a room. `renew` is called shortly before the token ends.

    `refuse` is called when it does, or when it is revoked: the peer has left the room by then, and is to be told why.
    """

    __slots__ = ("_admission", "_refuse", "_renew", "_revocations", "_timers", "peer", "room")

    def __init__(
        self,
        room: Room,
        peer: Peer,
        claims: Claims,
        revocations: Revocations,
        *,
        refuse: Callable[[TokenError], None],
        renew: Callable[[], None] | None = None,
    ) -> None:
        self.room = room
        self.peer = peer
        self._revocations = revocations
        self._admission: Admission | None = None
        self._refuse = refuse
        self._renew = renew
        self._timers: list[asyncio.TimerHandle] = []
        self.hold(claims)
        room.join(peer)

    def hold(self, claims: Claims) -> None:
        """Go by these claims from now on: a renewed token, verified in this turn of the loop."""
        self._let_go()
        self._admission = self._revocations.admit(claims, self._revoked)
        self.peer.grant = Grant(claims.subject, self.peer.grant.device, claims.can_write(self.room.name))
        if claims.expires_at is not None:
            loop = asyncio.get_running_loop()
            left = max(0.0, claims.expires_at - time.time())
            self._timers.append(loop.call_later(left, self._expire))
            if self._renew is not None and left > 0:
                self._timers.append(
                    loop.call_later(left - (RENEWAL_SECONDS if left > RENEWAL_SECONDS else left / 2), self._renew)
                )

    def end(self) -> None:
        """Leave the room. Idempotent."""
        self._let_go()
        self.room.leave(self.peer)

    def _expire(self) -> None:
        self.end()
        self._refuse(TokenExpired("the token has expired; connect again with a new one"))

    def _revoked(self, error: TokenRevoked) -> None:
        self.end()
        self._refuse(error)

    def _let_go(self) -> None:
        if self._admission is not None:
            self._revocations.dismiss(self._admission)
            self._admission = None
        for timer in self._timers:
            timer.cancel()
        self._timers = []
