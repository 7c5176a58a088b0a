"""Who is here: one room's awareness states. Source of the rules and of the format: y-protocols' `awareness.js`."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable
from typing import NamedTuple, NoReturn

from crdt.coding import MAX_CLIENT, Malformed, Reader, write_uint
from crdt.errors import MalformedPresence

_NULL = b"null"
_MAX_GONE = 4096
_ELSEWHERE = object()
_GONE_SECONDS = 30.0

MAX_UNKNOWN = 4096
"""States that an awareness update may have beyond as many as are known. Stock y-websocket clients relay everybody's states, and
those of who went a moment ago."""


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


class Presence:
    """The states of a room: one JSON value per client id, each spoken for by the owner that introduced the id.

    `max_state_bytes` bounds one state's JSON text, `max_per_owner` the ids that one owner has at a time; `timeout` is
    how many seconds a state lasts without renewal. The clock is passed in as `now`, in seconds, and never goes back.
    """

    def __init__(self, max_state_bytes: int = 65536, timeout: float = 30.0, max_per_owner: int = 4) -> None:
        self._max_state_bytes = max_state_bytes
        self._timeout = timeout
        self._max_per_owner = max_per_owner
        self._states: dict[int, _State] = {}
        self._owned: dict[Hashable, set[int]] = {}
        # The clocks at which ids went, oldest first: what peers still relay of them must not bring them back.
        # They are forgotten after a while, lest whoever used an id last mutes all who use it after him.
        self._gone: dict[int, tuple[int, float]] = {}
        self._now = 0.0

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
        bounded = owner is not _ELSEWHERE
        try:
            for entry in self._decode(update, len(self._states) + MAX_UNKNOWN if bounded else math.inf):
                if self._is_news(entry, owner):
                    if entry.client in news:
                        raise Malformed("it has two states for one client")
                    _check_json(entry.text)
                    news[entry.client] = entry
                    if entry.removes:
                        removed.add(entry.client)
                    if bounded and len(news) - len(removed) > self._max_per_owner:
                        raise Malformed(f"one connection speaks for more than {self._max_per_owner} clients")
        except Malformed as error:
            raise MalformedPresence(str(error)) from error
        if bounded and len((self._owned.get(owner, set()) | news.keys()) - removed) > self._max_per_owner:
            raise MalformedPresence(f"one connection speaks for more than {self._max_per_owner} clients")
        for client, entry in news.items():
            if client in removed:
                self._remove(client, entry.clock)
            else:
                self._states[client] = _State(entry.clock, entry.encoded, owner, now)
                self._owned.setdefault(owner, set()).add(client)
                self._gone.pop(client, None)
        return set(news)

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
            del self._gone[next(iter(self._gone))]
        return expired

    def encode(self, ids: Iterable[int] | None = None) -> bytes:
        """An awareness update with the states of `ids` (default: all), null for those that went lately."""
        parts: list[bytes] = []
        for client in self._states if ids is None else ids:
            if client in self._states:
                parts.append(self._states[client].encoded)
            elif client in self._gone:
                parts.append(write_uint(client) + write_uint(self._gone[client][0]) + b"\x04" + _NULL)
        return write_uint(len(parts)) + b"".join(parts)

    def _decode(self, update: bytes, most: float) -> Iterable[_Entry]:
        reader = Reader(update)
        count = reader.count(3)
        if count > most:
            raise Malformed("it has many more states than there are clients here")
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
            return not entry.removes and (entry.clock > clock or went <= self._now - _GONE_SECONDS)
        if state.owner != owner:
            return False
        return entry.clock > state.clock or (entry.clock == state.clock and entry.removes)

    def _remove(self, client: int, clock: int) -> None:
        state = self._states.pop(client)
        owned = self._owned[state.owner]
        owned.remove(client)
        if not owned:
            del self._owned[state.owner]
        self._gone.pop(client, None)
        self._gone[client] = clock, self._now
        if len(self._gone) > _MAX_GONE:
            del self._gone[next(iter(self._gone))]


def _check_json(text: bytes) -> None:
    try:
        json.loads(text.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed("a state is not JSON") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
