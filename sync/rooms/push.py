"""The offline queue: a batch of entries for many documents in, a receipt for each entry out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from crdt.document import Verdict
from crdt.errors import CrdtError
from sync.protocol.push import PushEntry
from sync.rooms.errors import Forbidden, RoomError
from sync.rooms.ports import Change
from sync.rooms.registry import Rooms
from sync.rooms.room import Delta

CHANGES_PAGE = 1000
"""Documents looked at in the changes feed for one answer."""


class Access(Protocol):
    """What the bearer of a token may do."""

    @property
    def subject(self) -> str:
        """The account, "" when nobody signed in."""
        ...

    def can_read(self, document: str) -> bool: ...

    def can_write(self, document: str) -> bool: ...


class Taken(NamedTuple):
    """What became of one entry.

    `status` is `applied`, `duplicate` or `rejected`. For the first two the log holds the entry at or before number `seq`,
    durably; for the third `code` is stable and `reason` is a sentence.
    """

    id: str
    status: str
    seq: int | None = None
    code: str | None = None
    reason: str | None = None


class Feed(NamedTuple):
    """A page of the changes feed, of documents that the account may read."""

    changes: Sequence[Change]
    cursor: int
    more: bool


async def take(rooms: Rooms, access: Access, device: str, entries: Sequence[PushEntry]) -> list[Taken]:
    """Apply entries, in order for each document, and wait until they are durable. Receipts are in the entries' order.

    Nothing is raised for a bad entry: it is rejected and those behind it are taken. The same call again changes nothing.
    Raises `StoreUnavailable` or `ShuttingDown` when the whole should be tried again later.
    """
    receipts: list[Taken | None] = [None] * len(entries)
    by_document: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        by_document.setdefault(entry.doc, []).append(index)

    async def one(document: str, indices: Sequence[int]) -> None:
        batch = [entries[index] for index in indices]
        for index, receipt in zip(indices, await _take_document(rooms, access, device, document, batch), strict=True):
            receipts[index] = receipt

    await asyncio.gather(*[one(document, indices) for document, indices in by_document.items()])
    return [receipt for receipt in receipts if receipt is not None]


async def _take_document(
    rooms: Rooms, access: Access, device: str, document: str, entries: Sequence[PushEntry]
) -> list[Taken]:
    if not access.can_write(document):
        error = Forbidden("this token may not change the document")
        return [_rejected(entry, error) for entry in entries]
    await rooms.admit()
    try:
        outcomes, seq = await rooms.open(document).push(
            [entry.update for entry in entries], access.subject, device, [entry.lineage for entry in entries]
        )
    except RoomError as error:
        if error.transient:
            raise
        return [_rejected(entry, error) for entry in entries]
    return [
        Taken(entry.id, "applied" if outcome is Verdict.APPLIED else "duplicate", seq)
        if isinstance(outcome, Verdict)
        else _rejected(entry, outcome)
        for entry, outcome in zip(entries, outcomes, strict=True)
    ]


def _rejected(entry: PushEntry, error: CrdtError | RoomError) -> Taken:
    return Taken(entry.id, "rejected", None, error.code, error.reason)


async def pull(rooms: Rooms, access: Access, wanted: Mapping[str, bytes]) -> dict[str, Delta | CrdtError | RoomError]:
    """What copies with the given state vectors lack, by document; an error where a document cannot be given.

    Raises `StoreUnavailable` or `ShuttingDown` when the whole should be tried again later.
    """

    async def one(document: str, state_vector: bytes) -> Delta | CrdtError | RoomError:
        if not access.can_read(document):
            return Forbidden("this token may not read the document")
        try:
            return await rooms.open(document).pull(state_vector)
        except CrdtError as error:
            return error
        except RoomError as error:
            if error.transient:
                raise
            return error

    deltas = await asyncio.gather(*[one(document, state_vector) for document, state_vector in wanted.items()])
    return dict(zip(wanted, deltas, strict=True))


async def changes(rooms: Rooms, access: Access, since: int) -> Feed:
    """Documents that the account may read with entries committed after cursor `since`. Raises `StoreUnavailable`."""
    page = await rooms.store.changes(since, CHANGES_PAGE)
    return Feed([change for change in page.changes if access.can_read(change.document)], page.cursor, page.more)
