"""The offline queue: entries for many documents in, a receipt for each out, and what the client lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from crdt.document import Verdict
from crdt.errors import CrdtError
from sync.protocol.push import Changed, Delta, PushAnswer, PushEntry, PushRequest, Receipt, Refusal
from sync.rooms.answers import Answer
from sync.rooms.errors import AnswerFull, Forbidden, RoomError
from sync.rooms.registry import Rooms

CHANGES_PAGE = 1000
"""Documents looked at in the changes feed for one answer."""


class Access(Protocol):
    """What the bearer of a token may do."""

    @property
    def subject(self) -> str:
        """The account, "" when nobody signed in."""
        ...

    def can_read(self, document: str) -> bool:
        """Whether the document may be read."""
        ...

    def can_write(self, document: str) -> bool:
        """Whether the document may be changed; whoever may that may read it."""
        ...


TAKEN_AT_ONCE = 32
"""Documents of a push that are in memory for it at a time."""

PATIENCE_SECONDS = 10.0
"""How long the entries of a push that cut characters wait for each other and for those of others."""

PULLED_AT_ONCE = 4
"""Documents whose deltas are made at a time."""


async def answer(rooms: Rooms, access: Access, request: PushRequest, held: Answer) -> PushAnswer:
    """Apply the entries, in order for each document, and gather what the client lacks once all of it is durable.

    `held` counts the deltas: the caller ends it when the client has them.
    Nothing is raised for a bad entry: it is rejected, and those behind it are taken. The same request again changes nothing.
    Raises a transient `RoomError` when the whole should be tried again later; then nobody was told that anything is durable.
    """
    receipts = await _take(rooms, access, request)
    deltas = await _pull(rooms, access, request.pull, held)
    changed: list[Changed] = []
    cursor, more = request.since, False
    if request.since is not None:
        page = await rooms.store.changes(request.since, CHANGES_PAGE)
        changed = [Changed(each.document, each.head) for each in page.changes if access.can_read(each.document)]
        cursor, more = page.cursor, page.more
    return PushAnswer(list(request.receipts(receipts)), deltas, changed, cursor, more)


async def _take(rooms: Rooms, access: Access, request: PushRequest) -> list[Receipt]:
    by_document: dict[str, list[int]] = {}
    for index, entry in enumerate(request.entries):
        by_document.setdefault(entry.doc, []).append(index)
    groups = [[request.entries[index] for index in indices] for indices in by_document.values()]
    place = asyncio.Semaphore(TAKEN_AT_ONCE)

    until = asyncio.get_running_loop().time() + PATIENCE_SECONDS

    async def take(document: str, group: Sequence[PushEntry]) -> list[Receipt]:
        async with place:
            return await _take_document(rooms, access, request.device, document, group, until)

    try:
        async with asyncio.TaskGroup() as together:
            taken = [together.create_task(take(*each)) for each in zip(by_document, groups, strict=True)]
    except BaseExceptionGroup as errors:
        # The others were cancelled: a request that is answered with 503 is not worked on any more.
        raise errors.exceptions[0] from None
    receipts: dict[int, Receipt] = {}
    for indices, group_receipts in zip(by_document.values(), taken, strict=True):
        receipts.update(zip(indices, group_receipts.result(), strict=True))
    return [receipts[index] for index in range(len(request.entries))]


async def _take_document(
    rooms: Rooms, access: Access, device: str, document: str, entries: Sequence[PushEntry], until: float
) -> list[Receipt]:
    if not access.can_write(document):
        error = Forbidden("this token may not change the document")
        return [_rejected(entry, error) for entry in entries]
    await rooms.pending.admit()
    try:
        outcomes, seq = await rooms.open(document).push(
            [entry.update for entry in entries],
            access.subject,
            device,
            [entry.lineage for entry in entries],
            until - asyncio.get_running_loop().time(),
        )
    except RoomError as error:
        if error.transient:
            raise
        return [_rejected(entry, error) for entry in entries]
    return [
        Receipt(entry.id, "applied" if outcome is Verdict.APPLIED else "duplicate", seq)
        if isinstance(outcome, Verdict)
        else _rejected(entry, outcome)
        for entry, outcome in zip(entries, outcomes, strict=True)
    ]


def _rejected(entry: PushEntry, error: CrdtError | RoomError) -> Receipt:
    return Receipt(entry.id, "rejected", None, error.code, error.reason)


async def _pull(rooms: Rooms, access: Access, wanted: Mapping[str, bytes], held: Answer) -> dict[str, Delta | Refusal]:
    """Deltas in the order of `wanted`, as many as one answer holds, and the first."""
    deltas: dict[str, Delta | Refusal] = {}
    names = list(wanted)
    # The first alone, so that none of those behind it takes its room.
    group, names = names[:1], names[1:]
    while group:
        if held.full:
            deltas |= dict.fromkeys(group + names, Refusal(AnswerFull.code, "the answer is full; ask for this in another"))
            break
        async with asyncio.TaskGroup() as pulling:
            found = [pulling.create_task(_delta(rooms, access, document, wanted[document], held)) for document in group]
        for document, task in zip(group, found, strict=True):
            delta = task.result()
            if isinstance(delta, RoomError):
                raise delta
            deltas[document] = delta
        group, names = names[:PULLED_AT_ONCE], names[PULLED_AT_ONCE:]
    return deltas


async def _delta(rooms: Rooms, access: Access, document: str, state_vector: bytes, held: Answer) -> Delta | Refusal | RoomError:
    """A transient error is returned, lest it end the tasks beside it."""
    if not access.can_read(document):
        return Refusal(Forbidden.code, "this token may not read the document")
    try:
        return await rooms.open(document).pull(state_vector, held)
    except CrdtError as error:
        return Refusal(error.code, error.reason)
    except RoomError as error:
        return error if error.transient else Refusal(error.code, error.reason)
