"""A document on this device: a pycrdt document whose every transaction is kept, and what is known of its sync.

No network here. The engines (`push`, `live`) read the outbox and report back what they learned.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pycrdt import Doc, TransactionEvent

from ebbtide_client.errors import ClientError, LineageDiffers, OutboxFailed, UnexpectedAnswer
from ebbtide_client.outbox import Outbox, Stored
from ebbtide_client.status import Connection, Rejected, Status


class Replica:
    """Made and used on the thread of the event loop, like the pycrdt document in it."""

    def __init__(self, name: str, outbox: Outbox, stored: Stored, client_id: int | None = None) -> None:
        self.name = name
        # Yjs' own ids have 32 bits; pycrdt would take up to 53, which y-py and others cut off.
        self.ydoc: Doc[Any] = Doc(client_id=secrets.randbits(32) if client_id is None else client_id)
        with self.ydoc.transaction():
            for update in stored.updates:
                self.ydoc.apply_update(update)
        self.lineage = stored.lineage
        self.status = Status(Connection.OFFLINE, stored.unsynced, tuple(stored.rejected), None)
        self.outgoing = asyncio.Event()
        """Set when the outbox got an entry; the engine that sends it clears this."""
        self._outbox = outbox
        self._unwritten: list[bytes] = []
        self._logged = len(stored.updates)
        self._integrating = False
        self._discarded = False
        self._changed = asyncio.Event()
        self._subscription = self.ydoc.observe(self._keep)

    # Edits

    @contextmanager
    def edit(self) -> Iterator[Doc[Any]]:
        """See `Document.edit`."""
        try:
            with self.ydoc.transaction():
                yield self.ydoc
        except ExceptionGroup as group:
            raise _outbox_failure(group) from None

    def _keep(self, event: TransactionEvent) -> None:
        if self._discarded:
            raise OutboxFailed(f"the local copy of {self.name!r} was discarded: open the document again")
        if self._integrating:
            self._outbox.receive(self.name, event.update)
            self._logged += 1
            return
        # What could not be written goes first with the next edit, which depends on it.
        self._unwritten.append(event.update)
        self._outbox.record(self.name, self._unwritten)
        written = len(self._unwritten)
        self._unwritten.clear()
        self._logged += written
        self.outgoing.set()
        self._show(unsynced=self.status.unsynced + written)

    def discard(self) -> None:
        """Refuse edits from now on: what they build on is gone from the outbox."""
        self._discarded = True

    # What the engines learn

    def integrate(self, update: bytes) -> None:
        """Apply what the server sent, and keep what was new in it.

        Raises `UnexpectedAnswer` when it is no update, `OutboxFailed`.
        """
        self._integrating = True
        try:
            self.ydoc.apply_update(update)
        except ValueError as error:
            raise UnexpectedAnswer(f"the server sent an update that cannot be applied: {error}") from error
        except ExceptionGroup as group:
            raise _outbox_failure(group) from None
        finally:
            self._integrating = False

    def trace(self, lineage: str | None) -> None:
        """Compare the server's lineage (None: it has no such document yet) with ours, and take it where we have none.

        Raises `LineageDiffers`.
        """
        if lineage is None or lineage == self.lineage:
            return
        if self.lineage is not None:
            raise LineageDiffers(
                self.name,
                f"the server's {self.name!r} was made anew since this copy was taken; its unsynced edits are kept here",
            )
        self._outbox.set_lineage(self.name, lineage)
        self.lineage = lineage

    def bring_back(self) -> bytes:
        """Put all of the document into the outbox, as the update that is returned: the server lost it.

        Raises `OutboxFailed`.
        """
        update = self.ydoc.get_update()
        self._outbox.record(self.name, [update])
        self._logged += 1
        self._show(unsynced=self.status.unsynced + 1)
        return update

    def confirm(self, ids: Collection[int]) -> None:
        """These entries are durable on the server."""
        self._show(unsynced=self.status.unsynced - self._outbox.remove(ids))

    def reject(self, rejected: Rejected) -> None:
        """The server refused this entry for good."""
        if self._outbox.reject(rejected.id, rejected.code, rejected.reason):
            self._show(unsynced=self.status.unsynced - 1, rejected=(*self.status.rejected, rejected))

    def retry_rejected(self) -> int:
        """See `Document.retry_rejected`."""
        again = self._outbox.retry(self.name)
        self._show(unsynced=self.status.unsynced + again, rejected=())
        return again

    def show(self, connection: Connection, problem: ClientError | None = None) -> None:
        """Tell whoever watches how the connection is."""
        self._show(connection=connection, problem=problem)

    # Watching

    def _show(self, **changes: Any) -> None:
        status = replace(self.status, **changes)
        if status != self.status:
            self.status = status
            self._changed.set()
            self._changed = asyncio.Event()

    async def changes(self) -> AsyncIterator[Status]:
        """See `Document.changes`."""
        while True:
            status, changed = self.status, self._changed
            yield status
            if status is self.status:
                await changed.wait()

    # Housekeeping

    async def compact(self, after: int) -> None:
        """Make the local log one entry when it has more than `after`. Raises `OutboxFailed`."""
        # An edit that could not be written would get into the log by this door, and never into the outbox.
        if self._logged <= after or self._unwritten:
            return
        self._logged = 1
        # What was received and waits for its causes is neither in the state nor in the log: the server has it.
        await asyncio.to_thread(self._outbox.compact, self.name, self._outbox.last(self.name), self.ydoc.get_update())


def _outbox_failure(group: ExceptionGroup[Exception]) -> Exception:
    """The one thing that our own observer raises, out of the group that pycrdt makes of it; else the group."""
    return next((error for error in group.exceptions if isinstance(error, OutboxFailed)), group)
