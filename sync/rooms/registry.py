"""All open rooms of a node, and what has to be done for them now and then."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress

from crdt.presence import PresenceBudget
from sync.rooms.answers import Answers
from sync.rooms.catch_ups import CatchUps
from sync.rooms.committer import Committer
from sync.rooms.errors import Overloaded, RoomError, ShuttingDown, StoreUnavailable
from sync.rooms.intake import Intake
from sync.rooms.limits import RoomLimits
from sync.rooms.pending import PendingBytes
from sync.rooms.ports import Bus, News, Store
from sync.rooms.room import Room
from sync.rooms.services import NodeServices
from sync.rooms.store_health import Asked, StoreHealth

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
"""How often documents that nobody uses, and presence that nobody renews, are looked for."""

MANY_UNLOADED = 100
"""Documents that leave memory before it is worth giving the memory back."""

DRAIN_SECONDS = 0.02
"""How often lagging peers are looked at, while there are any."""


class Rooms:
    """The rooms of one node: one room a document, from the first use to a while after the last."""

    def __init__(self, store: Store, bus: Bus, limits: RoomLimits, give_back: Callable[[], None] | None = None) -> None:
        """`give_back` is called now and then, after many documents have left memory."""
        self.store = store
        self.limits = limits
        self._bus = bus
        self._give_back = give_back
        self._rooms: dict[str, Room] = {}
        self._turning: list[Room] = []
        self._loop = asyncio.get_running_loop()
        self.health = StoreHealth()
        self.committer = Committer(store, bus, limits.keep_entries, self.health)
        self._lagging: dict[Room, None] = {}
        self._catch_ups = CatchUps(limits.catch_up_bytes)
        self.answers = Answers(limits.answer_bytes)
        self.presence = PresenceBudget(limits.presence_bytes)
        self.pending = PendingBytes(limits.pending_bytes)
        """Edits that wait for the store. Whoever reads edits from outside looks here first, so that a slow store slows the
        readers down."""
        self._services = NodeServices(
            self._schedule,
            self._lags,
            self.committer.wake,
            bus.publish,
            Intake(limits),
            self.pending,
            self._catch_ups,
            self.presence,
        )
        self._closing = self._closed = False
        self._unloaded = 0
        self._tasks = [
            self._loop.create_task(self._now_and_then(seconds, work))
            for seconds, work in (
                (SWEEP_SECONDS, self._sweep),
                (DRAIN_SECONDS, self._drain),
                (limits.poll_interval, self._poll),
                (limits.poll_interval, self._check_again),
            )
        ]

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms.values())

    def open(self, document: str) -> Room:
        """The room of the document, made if need be. Loading starts with its first use.

        Raises `ShuttingDown` once `stop` was called, and `Overloaded` when the node has as many rooms as it may have.
        """
        room = self._rooms.get(document)
        if room is None or room.failed:
            if self._closing:
                raise ShuttingDown("this node stops; connect again in a moment")
            if room is not None:
                self._forget(room)
            if len(self._rooms) >= self.limits.rooms:
                self._make_place()
            room = Room(document, self.store, self.limits, self._services)
            self._rooms[document] = room
            self._bus.subscribe(document, self._news)
        return room

    async def check(self) -> None:
        """Return when edits can be made durable. Raises `StoreUnavailable`."""
        if not self.committer.healthy:
            raise StoreUnavailable("the store did not take edits a moment ago")
        await self._check()

    async def settle(self) -> None:
        """Return when everything applied is durable. Endless while the store is away: the caller sets a bound."""
        while self._turning or any(room.inbox or not room.journal.idle for room in self._rooms.values()):
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Open no more rooms. What is open goes on until `close`."""
        self._closing = True

    async def close(self) -> None:
        """Release everything. What is not durable then was not acknowledged; `settle` comes first in a clean stop."""
        self.stop()
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.committer.close()
        for room in list(self._rooms.values()):
            self._forget(room)

    def _schedule(self, room: Room) -> None:
        if not room.scheduled:
            room.scheduled = True
            self._turning.append(room)
            if len(self._turning) == 1:
                # Runs after every callback that is ready now: all edits that this loop turn read from its sockets.
                self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        turning, self._turning = self._turning, []
        self._each(turning, self._turn_of)

    def _turn_of(self, room: Room) -> None:
        room.scheduled = False
        room.turn()

    def _each(self, rooms: Iterable[Room], work: Callable[[Room], None]) -> None:
        """Do what is to be done for every room: one that fails ends alone."""
        for room in rooms:
            try:
                work(room)
            except Exception:
                log.exception("room failed", extra={"document": room.name})
                room.fail(RoomError("the server made an error with this document; what was acknowledged is durable"))

    def _news(self, document: str, news: News) -> None:
        room = self._rooms.get(document)
        if room is not None:
            room.news(news)

    def _lags(self, room: Room) -> None:
        self._lagging[room] = None

    async def _now_and_then(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        # Drivers lose a cancellation now and then; it must not be all that ends this.
        while not self._closed:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                # Without it documents would go stale, or never leave memory, while all looks well.
                log.exception("the server made an error, it goes on")

    async def _drain(self) -> None:
        self._catch_ups.prune()
        self._each(list(self._lagging), self._drain_of)

    def _drain_of(self, room: Room) -> None:
        room.drain()
        if not room.audience.lagging:
            del self._lagging[room]

    async def _sweep(self) -> None:
        self._each(list(self._rooms.values()), self._sweep_of)
        if self._unloaded >= MANY_UNLOADED and self._give_back is not None:
            self._give_back()
            self._unloaded = 0

    def _sweep_of(self, room: Room) -> None:
        if room.failed:
            self._forget(room)
            return
        now = self._loop.time()
        if room.attendance is not None:
            room.attendance.expire()
        self._unloaded += room.unload(now)
        if room.resting and not len(room.audience) and now - room.used > self.limits.idle_after:
            self._forget(room)

    def _make_place(self) -> None:
        for room in list(self._rooms.values()):
            if not len(room.audience) and (room.resting or room.unload(math.inf)):
                self._forget(room)
        if len(self._rooms) >= self.limits.rooms:
            raise Overloaded("this node has as many documents open as it may have; try again in a moment")

    def _forget(self, room: Room) -> None:
        if self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            self._bus.unsubscribe(room.name, self._news)
        room.close()

    async def _check(self) -> None:
        try:
            await self.store.check()
        except RoomError as error:
            self.health.failed(Asked.CHECK, error.reason)
            raise
        self.health.answered(Asked.CHECK)

    async def _check_again(self) -> None:
        # Whoever asked may never ask again, and then the failure would stand for good.
        if self.health.failing(Asked.CHECK):
            with suppress(RoomError):
                await self._check()

    async def _poll(self) -> None:
        rooms = dict(self._rooms)
        try:
            heads = await self.store.heads(rooms)
        except RoomError as error:
            self.health.failed(Asked.POLL, error.reason)
            return
        self.health.answered(Asked.POLL)

        def catch_up(room: Room) -> None:
            if (head := heads.get(room.name, 0)) > room.journal.head:
                room.catch_up_with_store(head)

        self._each(rooms.values(), catch_up)
