"""One open document: edit it, watch it, and say how it is to be kept in sync."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pycrdt import Doc

from ebbtide_client.errors import EditsRejected, SyncStopped, WrongAddress
from ebbtide_client.exchange import Exchanges, Pushed
from ebbtide_client.replica import Replica
from ebbtide_client.status import Connection, Mode, Status

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Keeps a replica in sync until it is cancelled, and tells the replica how that goes."""

    async def run(self) -> None:
        """Go on until cancelled, or until only the application can settle what is wrong."""
        ...


class Document:
    """Made by `Client.open`. Belongs to the thread of its event loop."""

    def __init__(self, replica: Replica, exchanges: Exchanges, engine: Callable[[Replica, Mode], Engine]) -> None:
        self._replica = replica
        self._exchanges = exchanges
        self._engine = engine
        self._mode = Mode.OFFLINE
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self._replica.name

    @property
    def ydoc(self) -> Doc[Any]:
        """The pycrdt document. Each of its transactions is durable on this device when it ends, however it was made.

        A transaction that SQLite cannot write raises an `ExceptionGroup` with an `OutboxFailed` from pycrdt; within
        `edit` it is the plain error.
        """
        return self._replica.ydoc

    def edit(self) -> AbstractContextManager[Doc[Any]]:
        """A transaction: `with document.edit() as ydoc`. What is done inside becomes one edit, durable at the end.

        An exception inside does not undo what was done before it: Yjs has no roll-back. Raises `OutboxFailed` at the
        end when SQLite cannot write; the edit is then in memory alone and is tried again with the next one.
        """
        return self._replica.edit()

    @property
    def status(self) -> Status:
        """How it stands now; see `changes` for what follows."""
        return self._replica.status

    @property
    def mode(self) -> Mode:
        """What was asked for; `status.connection` is what there is."""
        return self._mode

    def changes(self) -> AsyncIterator[Status]:
        """The status now, and again whenever it is another one. Who reads slowly gets the newest, not each."""
        return self._replica.changes()

    async def synced(self) -> None:
        """Return as soon as every edit is durable on the server.

        Raises `EditsRejected` when no edit waits any more and `status.rejected` is not empty: what the server did not
        refuse is durable then. It does so until the refused edits were sent again or discarded, since until then this
        document is not what the server has. Waits while offline: set a bound with `asyncio.timeout`. Raises
        `LineageDiffers`, `TokenRefused`, `WrongAddress` or `SyncStopped` when waiting is of no use.
        """
        async for status in self.changes():
            if status.unsynced == 0:
                if status.rejected:
                    raise EditsRejected(self.name, status.rejected)
                return
            problem = status.problem
            if problem is not None and (problem.final or isinstance(problem, WrongAddress)):
                raise problem

    async def switch(self, mode: Mode) -> None:
        """Change how the document is kept in sync. Edits wait in the outbox meanwhile."""
        task, self._task, self._mode = self._task, None, mode
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._replica.show(Connection.OFFLINE)
        if mode is not Mode.OFFLINE:
            self._task = asyncio.create_task(self._keep_in_sync(self._engine(self._replica, mode)))

    async def push(self, at_most: int | None = None) -> Pushed:
        """One exchange with the server now, in any mode: send the outbox, then fetch what others wrote.

        `at_most` bounds it to the oldest entries. Returns when each is durable or rejected. Raises `Unreachable`,
        `ServerBusy`, `AccessDenied`, `Refused`, `UnexpectedAnswer` or `LineageDiffers`; what was confirmed before that
        stays confirmed, the rest stays in the outbox.
        """
        return await self._exchanges.run([self.name], at_most)

    async def retry_rejected(self) -> int:
        """Send rejected edits again, after whatever made the server refuse them was mended. Returns how many."""
        count = self._replica.retry_rejected()
        if count:
            # They are older than what was sent last, so the engine has to look at the outbox from its beginning.
            await self.switch(self._mode)
        return count

    async def _keep_in_sync(self, engine: Engine) -> None:
        try:
            await engine.run()
        except Exception as error:
            log.exception("sync of a document stopped")
            self._replica.show(Connection.OFFLINE, SyncStopped(f"an error in this client stopped the sync: {error!r}"))
