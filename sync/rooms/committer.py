"""Group commit: everything that is pending in all rooms of a node goes to the store in one transaction at a time."""

from __future__ import annotations

import asyncio
import logging

from sync.rooms.cursor import LogCursor
from sync.rooms.errors import RoomError, StoreCorrupted, StoreUnavailable
from sync.rooms.ports import Append, Appended, Bus, NewEntries, Store
from sync.rooms.store_health import Asked, StoreHealth

log = logging.getLogger(__name__)

BATCH_BYTES = 16 << 20
"""A batch is closed when it holds this much; one larger append still goes alone."""

RETRY_FIRST = 0.05
RETRY_MOST = 2.0
"""Seconds between attempts while the store is away, doubling from the first to the most."""

SNAPSHOTS_MOST = 4
"""Encoded documents that wait for the store at a time; each may be as large as a document may be."""

SETTLED_SECONDS = 3.0
"""How long no append fails, longer than `RETRY_MOST`, before a store that failed counts as well again. A full disk takes the
small appends and fails the large ones."""

GIVE_WAY_LEAST = 0.03
"""Seconds for which a contended document rests after an append; as long as the append took, if that is longer."""


class Committer:
    """Takes what rooms have pending, appends it, and lets them acknowledge.

    One append is under way at a time. What arrives meanwhile gathers by itself and goes with the next, so a commit is as
    large as the store is slow, and as soon as possible when it is not. While the store is away everything waits, nothing
    is acknowledged, and `healthy` is False until it has stayed back for a while.

    A document is *contended* when another node lost a turn at it. That node has to read on before its next try, so whoever
    was first would be first again for as long as it has edits, and the other's would not become durable. Hence contended
    documents rest for a moment after an append.
    """

    def __init__(self, store: Store, bus: Bus, retain: int | None, health: StoreHealth) -> None:
        self._store = store
        self._bus = bus
        self._retain = retain
        self._health = health
        self._waiting: dict[LogCursor, None] = {}
        self._work = asyncio.Event()
        self._closing = False
        self.task = asyncio.get_running_loop().create_task(self._run())
        self._housekeeping: set[asyncio.Task[None]] = set()
        self._unsettled: dict[LogCursor, None] = {}
        # Those that are to be appended on their own, to find out which of them the store cannot take.
        self._alone: dict[LogCursor, None] = {}
        # Those that rest so that other nodes have a turn.
        self._resting: dict[LogCursor, None] = {}
        self._settling: asyncio.TimerHandle | None = None
        self.commits = 0
        self.entries = 0

    @property
    def healthy(self) -> bool:
        """False from an append that failed until none has for `SETTLED_SECONDS`, or nothing is left to append."""
        return not self._health.failing(Asked.APPEND)

    def wake(self, cursor: LogCursor) -> None:
        """The cursor's room has something to append. Idempotent."""
        self._waiting[cursor] = None
        self._unsettled[cursor] = None
        self._work.set()

    async def close(self) -> None:
        """Stop, after the snapshots under way. What is pending then is not durable and was not acknowledged."""
        self._closing = True
        self._work.set()
        self.task.cancel()
        if self._settling is not None:
            self._settling.cancel()
        await asyncio.gather(self.task, *self._housekeeping, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        retry = RETRY_FIRST
        # Drivers lose a cancellation now and then; it must not be all that ends this.
        while not self._closing:
            await self._work.wait()
            cursors, batch = self._gather()
            if not batch:
                if not self._unsettled:
                    self._settle()
                continue
            begun = loop.time()
            try:
                results = await self._store.append(batch)
            except StoreUnavailable as error:
                self._health.failed(Asked.APPEND, error.reason)
                if self._settling is not None:
                    self._settling.cancel()
                    self._settling = None
                await asyncio.sleep(retry)
                retry = min(RETRY_MOST, retry * 2)
                for cursor in cursors:
                    cursor.unanswered()
                continue
            except StoreCorrupted as error:
                self._corrupted(cursors, error)
                continue
            self._settle()
            retry = RETRY_FIRST
            self.commits += 1
            seconds = loop.time() - begun
            for cursor, append, result in zip(cursors, batch, results, strict=True):
                if isinstance(result, Appended):
                    if result.contended:
                        self._give_way(cursor, seconds)
                    self._appended(cursor, append)
                else:
                    cursor.conflicted(result)

    def _settle(self) -> None:
        if not self.healthy and self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLED_SECONDS, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self._health.answered(Asked.APPEND)

    def _give_way(self, cursor: LogCursor, seconds: float) -> None:
        if not self._resting:
            # All together: a node that lost several turns has its own for all of them at once.
            asyncio.get_running_loop().call_later(max(GIVE_WAY_LEAST, seconds), self._gave_way)
        self._resting[cursor] = None

    def _gave_way(self) -> None:
        resting, self._resting = self._resting, {}
        for cursor in resting:
            self.wake(cursor)

    def _corrupted(self, cursors: list[LogCursor], error: StoreCorrupted) -> None:
        """One of these documents is damaged in the store, and which is found out by appending each on its own."""
        if len(cursors) == 1:
            log.error("document damaged in the store", extra={"document": cursors[0].name, "reason": error.reason})
            self._unsettled.pop(cursors[0], None)
            cursors[0].fail(error)
            return
        for cursor in cursors:
            self._alone[cursor] = None
            cursor.unanswered()

    def _gather(self) -> tuple[list[LogCursor], list[Append]]:
        cursors: list[LogCursor] = []
        batch: list[Append] = []
        size = 0
        # While the store is slow or away they would gather. A snapshot for which there is no room is due again next time.
        snapshots = SNAPSHOTS_MOST - len(self._housekeeping) - sum([cursor.has_snapshot for cursor in self._unsettled])
        while self._waiting and size < BATCH_BYTES:
            cursor = next(iter(self._waiting))
            if cursor in self._alone:
                if batch:
                    break
                del self._alone[cursor]
                size = BATCH_BYTES
            del self._waiting[cursor]
            if cursor in self._resting:
                continue
            append = cursor.take()
            if append is None:
                if cursor.error is not None or cursor.journal.idle:
                    del self._unsettled[cursor]
            else:
                if snapshots > 0 and cursor.prepare_snapshot(append):
                    snapshots -= 1
                cursors.append(cursor)
                batch.append(append)
                size += sum([len(draft.update) for draft in append.drafts])
        if not self._waiting:
            self._work.clear()
        return cursors, batch

    def _appended(self, cursor: LogCursor, append: Append) -> None:
        cursor.appended()
        self.entries += len(append.drafts)
        self._bus.publish(append.document, NewEntries(append.expected, append.drafts, append.lineage))
        snapshot = cursor.snapshot()
        if snapshot is not None:
            task = asyncio.get_running_loop().create_task(self._keep(append.document, snapshot.seq, snapshot.state))
            self._housekeeping.add(task)
            task.add_done_callback(self._housekeeping.discard)
        if cursor.journal.idle:
            self._unsettled.pop(cursor, None)
        else:
            self.wake(cursor)

    async def _keep(self, document: str, seq: int, state: bytes) -> None:
        try:
            await self._store.snapshot(document, seq, state)
            if self._retain is not None:
                await self._store.compact(document, seq - self._retain)
        except (RoomError, ValueError) as error:
            # The log is whole without it; the next snapshot is tried when it is due.
            log.warning("snapshot not written", extra={"document": document, "reason": str(error)})
