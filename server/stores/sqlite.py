"""The store on SQLite: one file, shared by any number of processes on one machine.

One thread writes, a few read, each on a connection of its own. The design and its figures: docs/design/sqlite-store.md.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from server.stores.lane import Lane
from server.stores.sqlite_file import translating
from server.stores.sqlite_reader import Reader
from server.stores.sqlite_writer import Writer
from sync.rooms.errors import StoreUnavailable
from sync.rooms.ports import Append, Appended, Changes, Conflict, Entry, Stored

PART_BYTES = 1 << 20  # of a snapshot's state, before compression
READERS = 2  # so that a large document that is being loaded does not keep the small ones waiting

T = TypeVar("T")


async def open_sqlite(path: Path, *, lock_wait: float = 5.0) -> SqliteStore:
    """Open the store in the file `path`; the file, and its directory, are made when missing.

    `lock_wait` is how many seconds a call waits for another process's transaction before it raises `StoreUnavailable`.
    Raises `StoreUnusable` for a path, file system, rights or contents with which no store is possible,
    `StoreCorrupted` for a damaged file, `StoreUnavailable` when another process keeps it locked.
    """
    writing = Lane("sqlite-writer")
    reading = [Lane(f"sqlite-reader-{index}") for index in range(READERS)]
    try:
        with translating():
            writer = await writing.run(Writer, path, lock_wait)
            readers = [(lane, await lane.run(Reader, path, lock_wait)) for lane in reading]
    except BaseException:
        for lane in [*reading, writing]:
            await lane.close()
        raise
    return SqliteStore(writing, writer, readers)


class SqliteStore:
    """A `sync.rooms.ports.Store`; made by `open_sqlite`. To be used and closed on the loop that opened it."""

    def __init__(self, writing: Lane, writer: Writer, readers: Sequence[tuple[Lane, Reader]]) -> None:
        self._writing = writing
        self._writer = writer
        self._readers = readers
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
        # The writer last: whoever closes the last connection to the file empties its write-ahead log.
        closings = [(lane, reader.close) for lane, reader in self._readers]
        for lane, close in [*closings, (self._writing, self._writer.close)]:
            with translating():
                await lane.run(close)
            await lane.close()

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
