"""What a room has applied and the store does not yet hold, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from crdt.updates import merge
from sync.rooms.pending import PendingBytes
from sync.rooms.ports import Draft, Entry

if TYPE_CHECKING:
    from sync.rooms.peer import Peer


MERGE_BYTES = 8 << 20
"""Updates are merged into a draft up to this size, since stores bound what an entry may hold."""


class Waiting(NamedTuple):
    """A future that is told an entry's number once everything up to `ticket` is durable."""

    ticket: int
    future: asyncio.Future[int]


class Journal:
    """The tail of a document's log between memory and store.

    Every applied update gets a *ticket*: 1, 2, 3, ... within this room's life. Tickets and entry numbers are different
    counters, since consecutive updates of one author become one entry. `durable` is the ticket up to which all is committed.
    """

    __slots__ = (
        "_drafts",
        "_first_ticket",
        "_flight",
        "_flight_bytes",
        "_flight_tickets",
        "_owed",
        "_pending",
        "_waiting",
        "applied",
        "durable",
        "head",
        "pending_bytes",
    )

    def __init__(self, pending: PendingBytes, head: int = 0) -> None:
        """`pending` counts what is not durable, until the room fails."""
        self._pending = pending
        self.head = head
        """The number of the last durable entry that this room knows."""
        self.applied = 0
        self.durable = 0
        self.pending_bytes = 0
        # Update, author and device: a draft is made of what consecutive updates of one author and device merge into.
        self._drafts: list[tuple[bytes, str, str]] = []
        self._flight: list[Draft] = []
        self._flight_bytes = 0
        self._flight_tickets: list[int] = []
        # Frames that peers get once everything up to a ticket is durable.
        self._owed: deque[tuple[int, Peer, bytes]] = deque()
        self._waiting: deque[Waiting] = deque()

    def add(self, update: bytes, author: str = "", device: str = "") -> int:
        """Take an applied update; its ticket."""
        self._drafts.append((update, author, device))
        size = len(update)
        self.pending_bytes += size
        self._pending.add(size)
        self.applied += 1
        return self.applied

    @property
    def idle(self) -> bool:
        """Whether everything applied is durable."""
        return self.durable == self.applied

    @property
    def in_flight(self) -> bool:
        """Whether drafts were taken whose fate is not known yet."""
        return bool(self._flight)

    @property
    def flight_entries(self) -> int:
        """How many entries what was taken makes."""
        return len(self._flight)

    @property
    def all_taken(self) -> bool:
        """Whether nothing was applied since the last `take` that found something."""
        return not self._drafts

    def owe(self, ticket: int, peer: Peer, frame: bytes) -> None:
        """Send `frame` to `peer` when `ticket` is durable. Tickets of successive calls do not fall."""
        self._owed.append((ticket, peer, frame))

    def wait(self, ticket: int) -> asyncio.Future[int]:
        """A future of the number of the entry that holds `ticket`, or of the head when that was durable before.

        It gets an exception when the room fails.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if ticket <= self.durable:
            future.set_result(self.head)
        else:
            self._waiting.append(Waiting(ticket, future))
        return future

    def take(self) -> Sequence[Draft]:
        """The drafts to append next: consecutive updates of one author and device merged into one.

        What was taken and not settled is taken again unchanged, so that an append whose outcome is unknown can be recognised.
        """
        if not self._flight and self._drafts:
            ticket = self.durable
            run: list[bytes] = []
            author = device = ""
            size = 0
            for update, by, on in self._drafts:
                size += len(update)
                if run and (by != author or on != device or size > MERGE_BYTES):
                    self._board(run, author, device, ticket)
                    run, size = [], len(update)
                author, device = by, on
                run.append(update)
                ticket += 1
            self._board(run, author, device, ticket)
            self._drafts = []
            self._flight_bytes = self.pending_bytes
        return self._flight

    def _board(self, run: list[bytes], author: str, device: str, last_ticket: int) -> None:
        update = run[0] if len(run) == 1 else merge(run)
        self._flight.append(Draft(update, author, device))
        self._flight_tickets.append(last_ticket)

    def settle(self) -> list[tuple[Peer, bytes]]:
        """Note that what was taken is durable, behind `head`. The frames now due, in order, each with its peer."""
        tickets, before = self._flight_tickets, self.head
        self.durable = tickets[-1]
        self.head = before + len(tickets)
        self._flight = []
        self._flight_tickets = []
        self._release(self._flight_bytes)
        index = 0
        while self._waiting and self._waiting[0].ticket <= self.durable:
            ticket, future = self._waiting.popleft()
            while tickets[index] < ticket:
                index += 1
            if not future.done():
                future.set_result(before + 1 + index)
        due: list[tuple[Peer, bytes]] = []
        owed, durable = self._owed, self.durable
        while owed and owed[0][0] <= durable:
            _, peer, frame = owed.popleft()
            due.append((peer, frame))
        return due

    def is_flight(self, entries: Sequence[Entry]) -> bool:
        """Whether these entries, read behind `head`, begin with exactly what was taken: an append that did succeed."""
        flight = self._flight
        return len(entries) >= len(flight) > 0 and all(
            (entry.update, entry.author, entry.device) == draft for entry, draft in zip(entries, flight, strict=False)
        )

    def fail(self, error: Exception) -> None:
        """The room ends with drafts that are not durable: nobody is told that they are, and they count no more."""
        self._release(self.pending_bytes)
        self._owed.clear()
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(error)

    def _release(self, size: int) -> None:
        self.pending_bytes -= size
        self._pending.remove(size)
        self._flight_bytes = 0
