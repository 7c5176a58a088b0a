"""Who is here: one room's awareness states. Source of the rules and of the format: y-protocols' `awareness.js`."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from typing import NamedTuple, NoReturn

from crdt.coding import MAX_CLIENT, Malformed, Reader, write_uint
from crdt.errors import MalformedPresence

_NULL = b"null"
_MAX_GONE = 4096
_ELSEWHERE = object()
_GONE_SECONDS = 30.0
_GONE_BYTES = 256

SMALL = 1 << 10
"""Bytes that a state counts as at least. A name, a colour and a cursor have fewer."""

ROOM_BYTES = 4 << 20
"""What the states of one room may take: those of 4,096 people who show little, or of 32 who show as much as they may."""

_MAX_PARTS = ROOM_BYTES // SMALL + _MAX_GONE

FIRST_CLOCK = 1 << 31
"""The highest clock with which an id is introduced. A page that shows a change each 20 ms needs a year for it."""

CLOCK_LEAP = 1 << 20
"""How far a clock moves on at a time. Clients go on from the highest clock that they hear of their own id, so nobody may
take another's near the end of the integers."""


class _Entry(NamedTuple):
    """One client's part of an awareness update; `text` is its JSON and `encoded` the whole part, as they came."""

    client: int
    clock: int
    text: bytes
    encoded: bytes

    @property
    def removes(self) -> bool:
        return self.text.strip() == _NULL


class _State(NamedTuple):
    clock: int
    encoded: bytes
    owner: Hashable
    renewed: float


class PresenceBudget:
    """How many bytes awareness states may take: those of a room, or those of all rooms that share it.

    States of more than `SMALL` bytes get the one half only, so that few who show much do not hide the many.
    """

    __slots__ = ("_most", "held", "passed_over")

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0
        self.passed_over = 0
        """States that found no room."""

    def admits(self, more: int, *, small: bool) -> bool:
        """Whether a state may take `more` bytes than are held."""
        return self.held + more <= (self._most if small else self._most // 2)


class Presence:
    """The states of a room: one JSON value per client id, each spoken for by the owner that introduced the id.

    `max_state_bytes` bounds one state's JSON text, `max_per_owner` the ids that one owner has at a time; `timeout` is
    how many seconds a state lasts without renewal. What finds no room in `budget`, which other rooms may share, or in
    this room's `ROOM_BYTES`, is passed over. The clock is passed in as `now`, in seconds, and never goes back.
    """

    def __init__(
        self,
        max_state_bytes: int = 65536,
        timeout: float = 30.0,
        max_per_owner: int = 4,
        budget: PresenceBudget | None = None,
    ) -> None:
        self._max_state_bytes = max_state_bytes
        self._timeout = timeout
        self._max_per_owner = max_per_owner
        self._states: dict[int, _State] = {}
        self._owned: dict[Hashable, set[int]] = {}
        # The clocks at which ids went, oldest first: what peers still relay of them must not bring them back.
        # They are forgotten after a while, lest whoever used an id last mutes all who use it after him.
        self._gone: dict[int, tuple[int, float]] = {}
        self._now = 0.0
        self._here = PresenceBudget(ROOM_BYTES)
        self._everywhere = budget or PresenceBudget(ROOM_BYTES)

    @property
    def held(self) -> int:
        """The bytes that the states count as; an update with all of them is hardly larger."""
        return self._here.held

    def __len__(self) -> int:
        return len(self._states)

    def follow(self, update: bytes, now: float) -> set[int]:
        """Take in what another node says of clients that are connected to it; as `apply`, and it may speak for many.

        Their ids are not for owners here to speak for, nor is it for other nodes to speak for those of owners here.
        """
        return self.apply(update, _ELSEWHERE, now)

    def introduced_here(self) -> list[int]:
        """The ids that owners here have introduced."""
        return [client for client, state in self._states.items() if state.owner is not _ELSEWHERE]

    def apply(self, update: bytes, owner: Hashable, now: float) -> set[int]:
        """Take in an awareness update; gives the ids whose state is new, changed, renewed or gone.

        A state counts when its clock is higher than the one known of its id; null removes it, at the same clock too.
        States of ids that another owner introduced are ignored: stock y-websocket clients relay everybody's states.

        Raises `MalformedPresence`, and then has taken in nothing.
        """
        self._now = now
        news: dict[int, _Entry] = {}
        removed: set[int] = set()
        owned = self._owned.get(owner, set())
        try:
            for entry in self._decode(update):
                if self._is_news(entry, owner):
                    if entry.client in news:
                        raise Malformed("it has two states for one client")
                    _check_json(entry.text)
                    news[entry.client] = entry
                    if entry.removes:
                        removed.add(entry.client)
                    elif owner is not _ELSEWHERE and len(news) - len(removed) > self._max_per_owner:
                        break
        except Malformed as error:
            raise MalformedPresence(str(error)) from error
        if owner is not _ELSEWHERE and len((owned | news.keys()) - removed) > self._max_per_owner:
            raise MalformedPresence(f"one connection speaks for more than {self._max_per_owner} clients")
        return {client for client, entry in news.items() if self._take(entry, owner)}

    def leave(self, owner: Hashable) -> set[int]:
        """Remove all states of an owner that went; gives their ids."""
        left = self._owned.get(owner, set()).copy()
        for client in left:
            self._remove(client, self._states[client].clock)
        return left

    def expire(self, now: float) -> set[int]:
        """Remove the states that nobody has renewed for `timeout` seconds; gives their ids."""
        self._now = now
        oldest = now - self._timeout
        expired = {client for client, state in self._states.items() if state.renewed <= oldest}
        for client in expired:
            self._remove(client, self._states[client].clock)
        while self._gone and next(iter(self._gone.values()))[1] <= now - _GONE_SECONDS:
            self._forget(next(iter(self._gone)))
        return expired

    def clear(self) -> None:
        """Forget everything, and give its room back."""
        self._states.clear()
        self._owned.clear()
        self._gone.clear()
        self._count(-self.held)

    def encode(self, ids: Iterable[int] | None = None) -> bytes:
        """An awareness update with the states of `ids` (default: all), null for those that went lately."""
        parts: list[bytes] = []
        for client in self._states if ids is None else ids:
            if client in self._states:
                parts.append(self._states[client].encoded)
            elif client in self._gone:
                parts.append(write_uint(client) + write_uint(self._gone[client][0]) + b"\x04" + _NULL)
        return write_uint(len(parts)) + b"".join(parts)

    def _decode(self, update: bytes) -> Iterable[_Entry]:
        reader = Reader(update)
        count = reader.count(3)
        if count > _MAX_PARTS:
            raise Malformed("it has more states than a room can have")
        for _ in range(count):
            start = reader.pos
            client = reader.uint(MAX_CLIENT)
            clock = reader.uint(MAX_CLIENT)
            text = reader.take(reader.uint(self._max_state_bytes))
            yield _Entry(client, clock, text, update[start : reader.pos])
        if reader.pos != reader.end:
            raise Malformed("bytes follow its end")

    def _is_news(self, entry: _Entry, owner: Hashable) -> bool:
        state = self._states.get(entry.client)
        if state is None:
            clock, went = self._gone.get(entry.client, (0, 0.0))
            if entry.removes or entry.clock > max(FIRST_CLOCK, clock + CLOCK_LEAP):
                return False
            return entry.clock > clock or went <= self._now - _GONE_SECONDS
        if state.owner != owner:
            return False
        return state.clock < entry.clock <= state.clock + CLOCK_LEAP or (entry.clock == state.clock and entry.removes)

    def _take(self, entry: _Entry, owner: Hashable) -> bool:
        """Take in what is news, if there is room for it."""
        client = entry.client
        if entry.removes:
            self._remove(client, entry.clock)
            return True
        known = self._states.get(client)
        more = _cost(entry.encoded) - (_cost(known.encoded) if known is not None else 0)
        small = len(entry.encoded) <= SMALL
        if more > 0 and not (self._here.admits(more, small=small) and self._everywhere.admits(more, small=small)):
            self._everywhere.passed_over += 1
            return False
        self._count(more)
        self._states[client] = _State(entry.clock, entry.encoded, owner, self._now)
        self._owned.setdefault(owner, set()).add(client)
        if client in self._gone:
            self._forget(client)
        return True

    def _count(self, more: int) -> None:
        self._here.held += more
        self._everywhere.held += more

    def _forget(self, client: int) -> None:
        del self._gone[client]
        self._count(-_GONE_BYTES)

    def _remove(self, client: int, clock: int) -> None:
        state = self._states.pop(client)
        self._count(_GONE_BYTES - _cost(state.encoded))
        owned = self._owned[state.owner]
        owned.remove(client)
        if not owned:
            del self._owned[state.owner]
        self._gone[client] = clock, self._now
        if len(self._gone) > _MAX_GONE or not self._everywhere.admits(0, small=False):
            self._forget(next(iter(self._gone)))


def _cost(encoded: bytes) -> int:
    return max(SMALL, len(encoded))


def _check_json(text: bytes) -> None:
    try:
        json.loads(text.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed("a state is not JSON") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
