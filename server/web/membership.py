"""One document open on one socket: a peer in a room, for as long as its token allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from server.tokens import Claims
from sync.rooms.peer import Peer
from sync.rooms.room import Room

RENEWAL_SECONDS = 30.0
"""How long before its end a token is asked to be renewed, where the protocol can ask; of a shorter life, the half."""


class Membership:
    """A peer in a room. `renew` is called shortly before the token ends, and `expire` when it does."""

    __slots__ = ("_expire", "_renew", "_timers", "peer", "room")

    def __init__(
        self,
        room: Room,
        peer: Peer,
        claims: Claims,
        *,
        expire: Callable[[], None],
        renew: Callable[[], None] | None = None,
    ) -> None:
        self.room = room
        self.peer = peer
        self._expire = expire
        self._renew = renew
        self._timers: list[asyncio.TimerHandle] = []
        self.hold(claims)
        room.join(peer)

    def hold(self, claims: Claims) -> None:
        """Go by these claims from now on: a renewed token."""
        self._cancel()
        self.peer.can_write = claims.can_write(self.room.name)
        self.peer.author = claims.subject
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
        self._cancel()
        self.room.leave(self.peer)

    def _cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []
