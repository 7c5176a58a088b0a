"""What the rooms need from outside: a durable log, news of it, and a way to reach a connection.

Each port belongs to this package, its consumer; `server` has the adapters. A driver's exceptions stop at the adapter, which
raises only what is named here (see `sync.rooms.errors`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from crdt.errors import CrdtError
from sync.rooms.errors import RoomError


class Draft(NamedTuple):
    """An entry that has no number yet.

    `update` is a Yjs v1 update; `author` the account that made it ("" when nobody signed in); `device` the outbox it came
    from ("" for what was edited live: sockets come and go, and consecutive edits of an author become one entry).
    """

    update: bytes
    author: str = ""
    device: str = ""


class Entry(NamedTuple):
    """One numbered update of a document's log. `time` is the server's clock at the append, in milliseconds since 1970."""

    seq: int
    update: bytes
    author: str
    device: str
    time: int


class Append(NamedTuple):
    """Entries to put behind number `expected` of one document's log; they become `expected + 1`, `expected + 2`, ...

    `lineage` is the lineage that the writer's copy of the document has; it becomes the document's own when this append
    creates it.
    """

    document: str
    expected: int
    drafts: Sequence[Draft]
    lineage: str


class Adoption(NamedTuple):
    """Entries as another store numbered them, to be put behind number `expected` of one document's log.

    They are numbered `expected + 1`, `expected + 2`, ... and keep author, device and time. Without entries, and with an
    `expected` above 0, it begins a log behind that number, as one is that was compacted up to there.
    """

    document: str
    expected: int
    entries: Sequence[Entry]
    lineage: str


class Appended(NamedTuple):
    """The whole append is durable; `head` is the number of its last entry.

    `contended` asks the caller to let others append to the document next: somebody's append met a conflict there.
    """

    head: int
    contended: bool = False


class Conflict(NamedTuple):
    """Nothing of the append was written: the log's head is not the expected number, or its lineage is another.

    `head` is the log's head and `lineage` its lineage, so that the writer can read on and try again. Of a document that does
    not exist they are 0 and "".
    """

    head: int
    lineage: str


class Stored(NamedTuple):
    """A document as it is loaded: the newest snapshot, if any, and every entry after it.

    `snapshot` is the encoded document at number `snapshot_seq` (0 and None when there is none). `lineage` is None exactly
    when the document does not exist, and then `head` is 0.
    """

    lineage: str | None = None
    head: int = 0
    snapshot_seq: int = 0
    snapshot: bytes | None = None
    entries: Sequence[Entry] = ()


class Change(NamedTuple):
    """A document that has entries newer than the cursor asked for, and its head."""

    document: str
    head: int


class Changes(NamedTuple):
    """A page of the changes feed. `cursor` continues it; `more` says that asking again now would give more.

    `feed` names the feed, for as long as the store exists: a cursor of another feed is none of this one.
    """

    changes: Sequence[Change]
    cursor: int
    more: bool
    feed: str


class Store(Protocol):
    """The durable logs of all documents. The only source of truth: several processes may use one store at a time.

    Every call that finds damage where it looks raises `StoreCorrupted`, whose `document` is "" when it cannot be told which.

    Document ids are any text of 1 to 200 UTF-8 bytes without control characters; two ids are the same only when they are
    the same code points. Every method may raise `StoreUnavailable` (try again later; nothing was half done); no driver's
    exception leaves an adapter. All methods may be called concurrently.
    """

    async def load(self, document: str) -> Stored:
        """The newest snapshot and the entries after it, consistent with each other, everything committed before the call
        included. A document that does not exist is `Stored()`; asking creates nothing.

        Raises `StoreCorrupted` when the log has a hole or a snapshot lacks a part: never a shorter document instead.
        """
        ...

    async def read(self, document: str, after: int, limit: int) -> Sequence[Entry]:
        """At most `limit` (>= 1) entries with numbers above `after`, in order and without a hole. Empty at the head.

        What was compacted is left out: the first entry then has a number above `after + 1`, and the caller, whose copy lacks
        what is gone, loads anew.
        """
        ...

    async def append(self, batch: Sequence[Append]) -> Sequence[Appended | Conflict]:
        """Append to many documents in one transaction; answers are in the order of the batch.

        Each append is atomic: all of its entries or, at a conflict, none; a conflict of one leaves the others be. A
        document occurs at most once in a batch and each append has at least one draft. On return everything answered with
        `Appended` is durable: it survives a kill and a loss of power. When the call raises, a caller cannot know whether
        it was written; it finds out by reading on from its expected number. The same holds when the call is cancelled: it may
        go on to its end. Raises `ValueError` for a batch that is none.
        """
        ...

    async def heads(self, documents: Iterable[str]) -> dict[str, int]:
        """The heads of those of the documents that exist. Cheap when nothing has been appended since the last call."""
        ...

    async def changes(self, since: int, limit: int) -> Changes:
        """Documents with entries committed after `since` (0: all), in the order of their latest commit, each once a page.

        No change is skipped: whatever commits after a cursor was issued appears behind that cursor, also when appends of
        several processes ran at the same time.
        """
        ...

    async def snapshot(self, document: str, seq: int, state: bytes) -> None:
        """Keep `state`, the encoded document at number `seq`, durably, and drop older snapshots. Entries stay.

        Atomic: a reader sees the old snapshot or the new one. Older than the one kept: does nothing. States of up to
        64 MiB and more are stored in parts. Raises `ValueError` when the document has no entry `seq`.
        """
        ...

    async def compact(self, document: str, keep_after: int) -> int:
        """Drop entries up to and including `keep_after`, and say how many went. Numbers stay as they are.

        Never beyond the snapshot: entries above its number stay, whatever was asked.
        """
        ...

    async def adopt(self, batch: Sequence[Adoption]) -> Sequence[Appended | Conflict]:
        """Take over documents from another store: as `append`, with numbers, authors, devices and times that are given.

        Order, atomicity, durability and what is (not) known after an error are those of `append`. What does not continue the
        log, or is of another lineage, is a `Conflict` and not written, so the same adoption again changes nothing. The
        changes feed and `heads` have adopted documents as they have any other.

        A log that was begun behind a number cannot be loaded (`StoreCorrupted`) before `snapshot` was called at that number
        or above it; `read` gives its entries. To begin one that is there, with that very head and lineage, changes nothing.

        Raises `ValueError` for a batch that is none: a document that occurs twice, or entries whose numbers do not follow
        `expected`; and `UpdateTooLarge` for an entry that this store cannot hold, before anything was written.
        """
        ...

    async def check(self) -> None:
        """Return when the store can be written to; raise `StoreUnavailable` with the reason when it cannot."""
        ...

    async def close(self) -> None:
        """Finish what is under way and release everything. Idempotent; no call may follow."""
        ...


class NewEntries(NamedTuple):
    """`drafts` are durable as entries `after + 1`, `after + 2`, ... of the document with this lineage.

    A bus may leave out drafts that are too large for it: then `after` is the number of the last of them, and `drafts` empty.
    """

    after: int
    drafts: Sequence[Draft]
    lineage: str


class NewPresence(NamedTuple):
    """An awareness update of clients that are connected to the node that says so."""

    update: bytes


class PresenceWanted(NamedTuple):
    """Somebody came in on the node that says so: the others are to tell who is with them."""


News = NewEntries | NewPresence | PresenceWanted

Listener = Callable[[str, News], None]
"""Called on the event loop with a document's id and news of it; must not block or raise."""


class Bus(Protocol):
    """News of documents between nodes: an accelerator, never a truth.

    News may be lost, doubled, late or out of order; who listens compares numbers and reads gaps from the store, and presence
    is renewed anyway. No method blocks on a network or raises when the bus is away.
    """

    def publish(self, document: str, news: News) -> None:
        """Tell the other nodes that listen for `document`. The publisher hears nothing of it."""
        ...

    def subscribe(self, document: str, listener: Listener) -> None:
        """Call `listener` for news of `document` from now on, until `unsubscribe` with the same pair. Idempotent."""
        ...

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """Stop calling. Unknown pairs are ignored."""
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class Outlet(Protocol):
    """The sending side of one connection, as the rooms see it. All calls are made on the event loop; none blocks."""

    def write(self, data: bytes) -> None:
        """Hand whole WebSocket frames to the transport. After the connection went, does nothing."""
        ...

    def backlog(self) -> int:
        """Bytes handed over that the transport has not yet given to the kernel; 0 once the connection is gone."""
        ...

    def fail(self, error: CrdtError | RoomError) -> None:
        """Begin to close the connection, telling the client why in its protocol's terms. Idempotent."""
        ...
