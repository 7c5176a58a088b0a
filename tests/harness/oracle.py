"""What must be true after any load and any fault: nothing acknowledged is lost, nothing is there twice, all have the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import pycrdt

from sync.rooms.errors import StoreUnavailable
from sync.rooms.ports import Entry, Store
from tests.harness.crowd import PATIENCE, Crowd

PAGE = 500

Document = pycrdt.Doc[Any]
OpenStore = Callable[[], Awaitable[Store]]
Read = Callable[[Document], list[str]]
"""The names of all edits in a document, in their order and each as often as it is there. Every edit has a name of its own."""


class Account(Protocol):
    """What was written, and what of it was acknowledged: names of edits by document. Both grow while people write."""

    @property
    def written(self) -> Mapping[str, Collection[str]]: ...

    @property
    def acknowledged(self) -> Mapping[str, Collection[str]]: ...


class Replica(Protocol):
    """Somebody's copy of a document."""

    @property
    def name(self) -> str: ...

    @property
    def document(self) -> str: ...

    def contents(self) -> list[str]:
        """The names of its edits, as `Read` gives them."""


async def converge(crowd: Crowd, replicas: Sequence[Replica], account: Account) -> float:
    """The seconds from the last edit until all replicas of a document are alike and have all that was written, once.

    The crowd has been told to write no more. Raises `AssertionError`.
    """
    groups: dict[str, list[Replica]] = {}
    for replica in replicas:
        groups.setdefault(replica.document, []).append(replica)

    def alike(document: str, group: Sequence[Replica]) -> bool:
        first = group[0].contents()
        return set(account.written[document]) <= set(first) and all(each.contents() == first for each in group[1:])

    await crowd.until(lambda: all(alike(document, group) for document, group in groups.items()), "agreement", pause=0.05)
    converged = crowd.since_the_last_edit()
    for replica in replicas:
        written = account.written[replica.document]
        check(f"the replica of {replica.name}", replica.contents(), written, written)
    return converged


async def audit(owed: Mapping[str, Collection[str]], account: Account, open_store: OpenStore, read: Read) -> None:
    """Look in the logs for what is owed, for what is there twice, and for what nobody wrote. Raises `AssertionError`.

    `owed` does not change meanwhile; others may be writing. A store that is away is waited for.
    """
    async with asyncio.timeout(PATIENCE):
        store = await _opened(open_store)
        try:
            for document, edits in owed.items():
                found = await logged(store, document, read)
                check(f"the log of {document}", found, edits, account.written[document])
        finally:
            await store.close()


async def _opened(open_store: OpenStore) -> Store:
    while True:
        try:
            return await open_store()
        except StoreUnavailable:
            await asyncio.sleep(0.1)


def check(where: str, found: Iterable[str], owed: Collection[str], written: Collection[str]) -> None:
    """Every edit that is owed is found, every edit is found once, and nothing that nobody wrote. Raises `AssertionError`."""
    times = Counter(found)
    lost = set(owed) - set(times)
    assert not lost, f"{where} lacks {len(lost)} edits that it has to have, such as {sorted(lost)[:5]}"
    doubled = {edit: count for edit, count in times.items() if count > 1}
    assert not doubled, f"{where} has edits more than once: {doubled}"
    strange = set(times) - set(written)
    assert not strange, f"{where} has edits that nobody wrote: {sorted(strange)[:5]}"


async def logged(store: Store, document: str, read: Read) -> list[str]:
    """What the document's log gives, entry by entry, after a look at whether it is whole. Raises `AssertionError`."""
    # First, since others may be writing: the entries that follow hold at least what it was made of.
    loaded = await store.load(document)
    entries: list[Entry] = []
    while page := await store.read(document, len(entries), PAGE):
        entries += page
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), f"the log of {document} has holes"
    assert len(entries) >= loaded.head, f"the log of {document} is shorter than its head"
    states = [loaded.snapshot] if loaded.snapshot is not None else []
    then = read(_replayed([*states, *(entry.update for entry in loaded.entries)]))
    assert then == read(_replayed(entry.update for entry in entries[: loaded.head])), f"snapshot and log of {document} differ"
    return read(_replayed(entry.update for entry in entries))


def _replayed(updates: Iterable[bytes]) -> Document:
    doc: Document = pycrdt.Doc()
    for update in updates:
        doc.apply_update(update)
    return doc
