"""The store on SQLite: one file, shared by any number of processes on one machine.

One thread writes, a few read, each on a connection of its own. The design and its figures: docs/design/sqlite-store.md.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from server.stores.adoption import check_adoptions
from server.stores.lane import Lane
from server.stores.sqlite_file import translating
from server.stores.sqlite_reader import Reader
from server.stores.sqlite_writer import Writer
from sync.rooms.errors import StoreUnavailable
from sync.rooms.ports import Adoption, Append, Appended, Changes, Conflict, Entry, Stored

PART_BYTES = 1 << 20  # of a snapshot's state, before compression
READERS = 2  # so that a large document that is being loaded does not keep the small ones waiting

T = TypeVar("T")
Owner = TypeVar("Owner", Reader, Writer)


async def open_sqlite(path: Path, *, lock_wait: float = 5.0) -> SqliteStore:
    """Open the store in the file `path`; the file, and its directory, are made when missing.

    `lock_wait` is how many seconds a call waits for another process's transaction before it raises `StoreUnavailable`.
    Raises `StoreUnusable` for a path, file system, rights or contents with which no store is possible,
    `StoreCorrupted` for a damaged file, `StoreUnavailable` when another process keeps it locked.
    """
    async with AsyncExitStack() as opened:
        with translating():
            # The writer first: it makes the file. And so it closes last: who does that empties the write-ahead log.
            writing = await _start(opened, "sqlite-writer", Writer, path, lock_wait)
            reading = [await _start(opened, f"sqlite-reader-{n}", Reader, path, lock_wait) for n in range(READERS)]
        return SqliteStore(writing, reading, opened.pop_all())


async def _start(opened: AsyncExitStack, name: str, owner: type[Owner], path: Path, lock_wait: float) -> tuple[Lane, Owner]:
    lane = Lane(name)
    opened.push_async_callback(lane.close)
    made = await lane.run(owner, path, lock_wait)
    opened.push_async_callback(lane.run, made.close)
    return lane, made


class SqliteStore:
    """A `sync.rooms.ports.Store`; made by `open_sqlite`. To be used and closed on the loop that opened it."""

    def __init__(self, writing: tuple[Lane, Writer], readers: Sequence[tuple[Lane, Reader]], opened: AsyncExitStack) -> None:
        self._writing, self._writer = writing
        self._readers = readers
        self._opened = opened
        self._closing: asyncio.Task[None] | None = None

    async def load(self, document: str) -> Stored:
        """`Store.load`."""
        lane, reader = self._idlest()
        return await self._run(lane, reader.load, document)

    async def read(self, document: str, after: int, limit: int) -> Sequence[Entry]:
        """`Store.read`. Compacted entries are left out: the first may then have a number above `after` + 1."""
        lane, reader = self._idlest()
        return await self._run(lane, reader.read, document, after, limit)

    async def append(self, batch: Sequence[Append]) -> Sequence[Appended | Conflict]:
        """`Store.append`. The lineage of a `Conflict` about a document that does not exist is ""."""
        if len({append.document for append in batch}) != len(batch):
            raise ValueError("a document occurs twice in a batch")
        if not all(append.drafts for append in batch):
            raise ValueError("an append has no draft")
        return await self._write(self._writer.append, batch)

    async def adopt(self, batch: Sequence[Adoption]) -> Sequence[Appended | Conflict]:
        """`Store.adopt`."""
        check_adoptions(batch)
        return await self._write(self._writer.adopt, batch)

    async def heads(self, documents: Iterable[str]) -> dict[str, int]:
        """`Store.heads`."""
        lane, reader = self._readers[0]  # always the same one: it remembers
        return await self._run(lane, reader.heads, list(documents))

    async def changes(self, since: int, limit: int) -> Changes:
        """`Store.changes`. The cursor is the number that the newest entry has among those of all documents."""
        lane, reader = self._idlest()
        return await self._run(lane, reader.changes, since, limit)

    async def snapshot(self, document: str, seq: int, state: bytes) -> None:
        """`Store.snapshot`. A large one is written in several transactions, with appends between them.

        Raises `ValueError` when the document has no entry `seq`.
        """
        parts = max(1, -(-len(state) // PART_BYTES))
        upload: int | None = None
        if parts > 1:
            upload = await self._write(self._writer.begin_upload, document, seq)
            if upload is None:
                return
            for part in range(parts - 1):
                await self._write(self._writer.add_part, upload, part, await _packed(state, part))
        last = await _packed(state, parts - 1)
        await self._write(self._writer.keep_snapshot, document, seq, upload, parts, last, len(state))

    async def compact(self, document: str, keep_after: int) -> int:
        """`Store.compact`. Many entries go in several transactions, with appends between them."""
        total, more = 0, True
        while more:
            gone, more = await self._write(self._writer.compact, document, keep_after)
            total += gone
        return total

    async def check(self) -> None:
        """`Store.check`. Writes and commits a row."""
        await self._write(self._writer.check)

    async def close(self) -> None:
        """`Store.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        with translating():
            await self._opened.aclose()

    def _idlest(self) -> tuple[Lane, Reader]:
        return min(self._readers, key=lambda reader: reader[0].pending)

    async def _write(self, call: Callable[..., T], *args: Any) -> T:
        result = await self._run(self._writing, call, *args)
        if self._writer.wants_checkpoint():
            # In its own turn, so that nobody's answer waits for it.
            self._writing.post(self._writer.checkpoint)
        return result

    async def _run(self, lane: Lane, call: Callable[..., T], *args: Any) -> T:
        if self._closing is not None:
            raise StoreUnavailable("the store is closed")
        with translating():
            return await lane.run(call, *args)


async def _packed(state: bytes, part: int) -> bytes:
    piece = memoryview(state)[part * PART_BYTES : (part + 1) * PART_BYTES]
    return await asyncio.to_thread(zlib.compress, piece, 1)
