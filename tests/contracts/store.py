"""The promises of `sync.rooms.ports.Store`, attacked."""

from __future__ import annotations

import asyncio
import random
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Adoption, Append, Appended, Change, Conflict, Draft, Entry, Store, Stored
from tests.contracts.writer import LINEAGE

ROOT = Path(__file__).parents[2]

FEED_PATIENCE = 100.0

NEIGHBOURS = [
    "a", "A", "\u00e1", "a\u0301", "a/b", "a/", "a%", "a_", "a*", "a?b", "a'b", 'a"b', "a.b", "a b", " a", "a ", "$a",
    "1", "01", "1.0", "1e0", "null", "\U0001f9ed", "\U0001f9ed\U0001f3fd", "\ufeffa", "\u212b", "\u00c5", "ss",
    "\u00df", "x" * 199, "x" * 200, "\u00e9" * 100, "\U0001f9ed" * 50,
]  # fmt: skip


class StoreBackend(ABC):
    """A place where a store's data is, and the means to damage it."""

    opener: str
    """`module:function`: an async function that opens a store at `address`, for a process of its own."""
    address: str

    @abstractmethod
    async def open(self) -> Store:
        """A further store on the same data, as another node has it."""

    @abstractmethod
    async def lose_entry(self, document: str, seq: int) -> None:
        """Remove one entry behind the store's back."""

    @abstractmethod
    async def lose_part(self, document: str, part: int) -> None:
        """Remove one part of the document's snapshot."""

    @abstractmethod
    async def shorten_part(self, document: str, part: int) -> None:
        """Cut the stored bytes of one part of the document's snapshot in half."""


def updates(entries: Iterable[Entry]) -> list[bytes]:
    """The updates alone."""
    return [entry.update for entry in entries]


def numbered(first: int, last: int) -> list[Draft]:
    """Drafts whose updates are their numbers."""
    return [Draft(b"%d" % seq) for seq in range(first, last + 1)]


def aged(first: int, last: int) -> list[Entry]:
    """Entries as they were written long ago, a few in each millisecond."""
    return [
        Entry(seq, b"%d" % seq, f"a{seq % 3}", f"d{seq % 2}", 1_000_000_000_000 + seq // 4) for seq in range(first, last + 1)
    ]


async def fill(store: Store, document: str, entries: int) -> None:
    """Give a new document `entries` entries whose updates are their numbers."""
    assert await store.append([Append(document, 0, numbered(1, entries), "L")]) == [Appended(entries)]


async def whole_log(store: Store, document: str) -> list[Entry]:
    """All entries, read page by page."""
    entries: list[Entry] = []
    while page := await store.read(document, len(entries), 97):
        entries += page
    return entries


async def drain(store: Store, cursor: int, seen: dict[str, int]) -> int:
    """Read the changes feed to its end into `seen`; the cursor there."""
    while True:
        page = await store.changes(cursor, 3)
        for document, head in page.changes:
            seen[document] = max(head, seen.get(document, 0))
        assert page.cursor > cursor or not page.changes
        cursor = page.cursor
        if not page.more:
            return cursor


class StoreContract(ABC):
    """Derive from this, name the class `Test...`, and provide the fixture `backend`."""

    @pytest.fixture
    @abstractmethod
    def backend(self, tmp_path: Path) -> StoreBackend:
        """An empty place of its own for each test."""

    @pytest.fixture
    async def store(self, backend: StoreBackend) -> AsyncIterator[Store]:
        """A store on the backend."""
        store = await backend.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, backend: StoreBackend, store: Store) -> AsyncIterator[Store]:
        """A second store on the same data."""
        other = await backend.open()
        yield other
        await other.close()

    def start_writer(self, backend: StoreBackend, name: str, commits: int) -> Writing:
        """A process that appends to five shared documents."""
        return Writing([sys.executable, "-m", "tests.contracts.writer", backend.opener, backend.address, name, "5",
                        str(commits)])  # fmt: skip

    async def test_a_document_that_does_not_exist_is_empty_and_stays_so(self, store: Store) -> None:
        assert await store.load("a") == Stored()
        assert await store.read("a", 0, 10) == []
        assert await store.heads(["a"]) == {}
        assert await store.compact("a", 10) == 0
        assert await store.append([Append("a", 3, [Draft(b"x")], "L")]) == [Conflict(0, "")]
        assert (await store.changes(0, 10)).changes == []
        assert await store.load("a") == Stored()

    async def test_entries_come_back_as_they_were_written(self, store: Store) -> None:
        drafts = [Draft(bytes(range(256)), "ann", "phone"), Draft(b"", "b\u00e9", ""), Draft(b"\0" * 70_000)]
        assert await store.append([Append("a", 0, drafts, "L")]) == [Appended(3)]
        stored = await store.load("a")
        assert (stored.lineage, stored.head, stored.snapshot_seq, stored.snapshot) == ("L", 3, 0, None)
        assert [Draft(entry.update, entry.author, entry.device) for entry in stored.entries] == drafts
        assert [entry.seq for entry in stored.entries] == [1, 2, 3]
        assert all(1_700_000_000_000 < entry.time < 10_000_000_000_000 for entry in stored.entries)
        assert await store.read("a", 0, 10) == stored.entries

    async def test_equal_updates_are_entries_of_their_own(self, store: Store) -> None:
        await store.append([Append("a", 0, [Draft(b"same", "x", "y")] * 2, "L")])
        await store.append([Append("a", 2, [Draft(b"same", "x", "y")], "L")])
        assert updates((await store.load("a")).entries) == [b"same"] * 3

    async def test_neighbouring_ids_are_different_documents(self, store: Store, other: Store) -> None:
        batch = [Append(document, 0, [Draft(b"1" + document.encode())], document) for document in NEIGHBOURS]
        assert await store.append(batch) == [Appended(1)] * len(NEIGHBOURS)
        for document in NEIGHBOURS[::2]:
            assert await other.append([Append(document, 1, [Draft(b"2" + document.encode())], document)]) == [Appended(2)]
            await other.snapshot(document, 1, document.encode())
        for index, document in enumerate(NEIGHBOURS):
            stored = await store.load(document)
            expected = [b"1" + document.encode(), b"2" + document.encode()]
            assert stored.lineage == document
            assert stored.snapshot == (None if index % 2 else document.encode())
            assert updates(stored.entries) == (expected[:1] if index % 2 else expected[1:])
        heads = {document: 1 if index % 2 else 2 for index, document in enumerate(NEIGHBOURS)}
        assert await store.heads(NEIGHBOURS) == heads
        assert dict((await store.changes(0, 1000)).changes) == heads

    @pytest.mark.parametrize("expected", [0, 1, 2, 4, 1_000_000])
    async def test_a_wrong_expected_number_is_a_conflict_and_writes_nothing(self, store: Store, expected: int) -> None:
        await fill(store, "a", 3)
        assert await store.append([Append("a", expected, [Draft(b"no")] * 2, "L")]) == [Conflict(3, "L")]
        assert updates(await store.read("a", 0, 10)) == [b"1", b"2", b"3"]

    async def test_another_lineage_is_a_conflict_and_writes_nothing(self, store: Store) -> None:
        await fill(store, "a", 3)
        assert await store.append([Append("a", 3, [Draft(b"no")], "M")]) == [Conflict(3, "L")]
        assert await store.append([Append("a", 0, [Draft(b"no")], "M")]) == [Conflict(3, "L")]
        assert (await store.load("a")).head == 3

    async def test_a_conflict_in_a_batch_leaves_the_others_be(self, store: Store) -> None:
        await fill(store, "old", 2)
        answers = await store.append([
            Append("new", 0, numbered(1, 2), "N"),
            Append("old", 1, [Draft(b"no")], "L"),
            Append("void", 7, [Draft(b"no")], "V"),
            Append("newer", 0, numbered(1, 1), "R"),
        ])  # fmt: skip
        assert answers == [Appended(2), Conflict(2, "L"), Conflict(0, ""), Appended(1)]
        assert await store.heads(["new", "old", "void", "newer"]) == {"new": 2, "old": 2, "newer": 1}
        assert updates((await store.load("new")).entries) == [b"1", b"2"]
        assert updates((await store.load("old")).entries) == [b"1", b"2"]

    async def test_many_documents_in_one_batch(self, store: Store) -> None:
        documents = [f"d{index}" for index in range(777)]
        for head in (1, 2):
            batch = [Append(name, head - 1, [Draft(b"%s %d" % (name.encode(), head), name)], "L") for name in documents]
            assert await store.append(batch) == [Appended(head)] * 777
        for document in random.Random(1).sample(documents, 50):
            entries = (await store.load(document)).entries
            assert updates(entries) == [b"%s 1" % document.encode(), b"%s 2" % document.encode()]
            assert {entry.author for entry in entries} == {document}

    async def test_appends_at_one_number_from_two_stores(self, store: Store, other: Store) -> None:
        for round_ in range(20):
            answers = await asyncio.gather(*[
                node.append([Append("a", round_, [Draft(b"%d %d" % (round_, index))], "L")])
                for index, node in enumerate([store, other, store, other])
            ])  # fmt: skip
            kinds = Counter(type(answer) for (answer,) in answers)
            assert kinds == {Appended: 1, Conflict: 3}
            assert all(answer == Conflict(round_ + 1, "L") for (answer,) in answers if isinstance(answer, Conflict))
        entries = await whole_log(other, "a")
        assert [entry.seq for entry in entries] == list(range(1, 21))

    async def test_what_another_store_appends_is_seen_at_once(self, store: Store, other: Store) -> None:
        for head in range(1, 30):
            writer, reader = (store, other) if head % 2 else (other, store)
            assert await writer.append([Append("a", head - 1, [Draft(b"x")], "L")]) == [Appended(head)]
            assert (await reader.load("a")).head == head
            assert len(await reader.read("a", 0, 100)) == head
            assert await reader.heads(["a"]) == {"a": head}
            assert (await reader.changes(0, 5)).changes == [Change("a", head)]

    async def test_two_processes_append_to_the_same_documents(self, backend: StoreBackend, store: Store) -> None:
        seen: dict[str, int] = {}
        cursor = 0
        writers = [self.start_writer(backend, name, 150) for name in ("left", "right")]
        acknowledged: list[tuple[str, int, bytes]] = []
        finished = asyncio.gather(*[writer.finish() for writer in writers])
        while not finished.done():
            cursor = await drain(store, cursor, seen)
            await asyncio.wait([finished], timeout=0.002)
        for lines in await finished:
            acknowledged += lines
        await drain(store, cursor, seen)
        assert {line[2].split(b":")[0] for line in acknowledged} == {b"left", b"right"}
        logs = {document: await whole_log(store, document) for document in seen}
        written = [(document, entry.seq, entry.update) for document, log in logs.items() for entry in log]
        assert sorted(written) == sorted(acknowledged)
        assert all([entry.seq for entry in log] == list(range(1, len(log) + 1)) for log in logs.values())
        assert seen == await store.heads(seen), "the changes feed skipped something"

    @pytest.mark.parametrize("acknowledgements", [1, 40, 400])
    async def test_a_killed_process_loses_nothing_acknowledged(self, backend: StoreBackend, acknowledgements: int) -> None:
        writer = self.start_writer(backend, "doomed", 1_000_000)
        acknowledged = await writer.kill_after(acknowledgements)
        assert len(acknowledged) >= acknowledgements
        store = await backend.open()
        try:
            logs = {document: await whole_log(store, document) for document, _, _ in acknowledged}
            for document, seq, update in acknowledged:
                assert logs[document][seq - 1].update == update
            assert await store.heads(logs) == {document: len(log) for document, log in logs.items()}
            for log in logs.values():
                assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
            # One that died while it gave the feed its numbers may hold it up for a minute.
            seen: dict[str, int] = {}
            async with asyncio.timeout(FEED_PATIENCE):
                while any(seen.get(document) != len(log) for document, log in logs.items()):
                    seen.clear()
                    await drain(store, 0, seen)
                    await asyncio.sleep(0.05)
            for document, log in logs.items():
                assert await store.append([Append(document, len(log), [Draft(b"on")], LINEAGE)]) == [Appended(len(log) + 1)]
        finally:
            await store.close()

    async def test_everything_is_there_after_reopening(self, backend: StoreBackend) -> None:
        first = await backend.open()
        await fill(first, "a", 300)
        await first.snapshot("a", 200, b"state")
        await first.compact("a", 100)
        before = await first.load("a"), await first.changes(0, 10)
        await first.close()
        second = await backend.open()
        try:
            assert (await second.load("a"), await second.changes(0, 10)) == before
            assert await second.append([Append("a", 300, [Draft(b"on")], "L")]) == [Appended(301)]
        finally:
            await second.close()

    async def test_reading_from_any_number(self, store: Store) -> None:
        await fill(store, "other", 5)
        for first in range(1, 301, 20):
            await store.append([Append("a", first - 1, numbered(first, first + 19), "L"),
                                Append("other", (first - 1) // 20 + 5, [Draft(b"x")], "L")])  # fmt: skip
        for after in (0, 1, 126, 127, 128, 129, 255, 256, 298, 299, 300, 301, 10**12):
            for limit in (1, 2, 128, 129, 1000, 10**12):
                last = min(300, after + limit)
                expected = [(seq, b"%d" % seq) for seq in range(after + 1, last + 1)]
                assert [(entry.seq, entry.update) for entry in await store.read("a", after, limit)] == expected

    async def test_a_snapshot_shortens_a_load_and_nothing_else(self, store: Store, other: Store) -> None:
        await fill(store, "a", 10)
        await store.snapshot("a", 6, b"six")
        for node in (store, other):
            stored = await node.load("a")
            assert (stored.lineage, stored.head, stored.snapshot_seq, stored.snapshot) == ("L", 10, 6, b"six")
            assert updates(stored.entries) == [b"7", b"8", b"9", b"10"]
            assert len(await node.read("a", 0, 100)) == 10

    async def test_snapshots_replace_older_ones_only(self, store: Store) -> None:
        await fill(store, "a", 10)
        for seq, state in [(4, b"four"), (3, b"three"), (8, b""), (7, b"seven"), (10, b"ten")]:
            await store.snapshot("a", seq, state)
            stored = await store.load("a")
            kept = {4: (4, b"four"), 3: (4, b"four"), 8: (8, b""), 7: (8, b""), 10: (10, b"ten")}[seq]
            assert (stored.snapshot_seq, stored.snapshot) == kept
            assert [entry.seq for entry in stored.entries] == list(range(kept[0] + 1, 11))

    async def test_a_snapshot_of_64_mib_while_appending(self, store: Store, other: Store) -> None:
        await fill(store, "big", 2)
        state = random.Random(3).randbytes(1 << 20) + b"text " * 14_000_000
        assert len(state) > 64 << 20
        await store.snapshot("big", 1, b"small")
        writing = asyncio.create_task(store.snapshot("big", 2, state))
        head = 0
        while not writing.done():
            assert await store.append([Append("a", head, [Draft(b"x")], "L")]) == [Appended(head + 1)]
            head += 1
            kept = (await other.load("big")).snapshot
            assert kept in (b"small", state)
        await writing
        assert head > 10, "appends waited for the snapshot"
        assert (await other.load("big")).snapshot == state
        await store.append([Append("big", 2, [Draft(b"on")], "L")])
        await other.snapshot("big", 3, b"small again")
        assert (await store.load("big")).snapshot == b"small again"

    async def test_snapshots_of_one_document_from_two_stores(self, store: Store, other: Store) -> None:
        await fill(store, "a", 10)
        states = {seq: random.Random(seq).randbytes(5 << 19) for seq in range(1, 11)}
        await asyncio.gather(*[(other if seq % 2 else store).snapshot("a", seq, states[seq]) for seq in states])
        stored = await store.load("a")
        assert (stored.snapshot_seq, stored.snapshot == states[10]) == (10, True)

    async def test_compaction_stops_at_the_snapshot(self, store: Store, other: Store) -> None:
        await fill(store, "a", 300)
        assert await store.compact("a", 100) == 0
        await store.snapshot("a", 200, b"state")
        assert await store.compact("a", 50) == 50
        assert [entry.seq for entry in await other.read("a", 50, 1000)] == list(range(51, 301))
        assert await other.compact("a", 10**12) == 150
        assert await store.compact("a", 200) == 0
        for node in (store, other):
            stored = await node.load("a")
            assert (stored.head, stored.snapshot_seq, len(stored.entries)) == (300, 200, 100)
            assert [entry.seq for entry in await node.read("a", 200, 1000)] == list(range(201, 301))

    async def test_compaction_of_many_entries(self, store: Store) -> None:
        await fill(store, "a", 5000)
        await fill(store, "b", 10)
        await store.snapshot("a", 4990, b"state")
        assert await store.compact("a", 4980) == 4980
        assert [entry.seq for entry in await store.read("a", 4980, 100)] == list(range(4981, 5001))
        assert len((await store.load("b")).entries) == 10

    async def test_a_writer_that_slept_through_a_compaction(self, store: Store, other: Store) -> None:
        for sleeper, name in ((store, "a"), (other, "b")):
            awake = other if sleeper is store else store
            await fill(sleeper, name, 3)
            assert await awake.append([Append(name, 3, numbered(4, 7), "L")]) == [Appended(7)]
            assert await awake.append([Append(name, 7, numbered(8, 10), "L")]) == [Appended(10)]
            await awake.snapshot(name, 10, b"state")
            assert await awake.compact(name, 10) == 10
            late = [Append("c" + name, 0, [Draft(b"x")], "L"), Append(name, 3, [Draft(b"late")], "L")]
            assert await sleeper.append(late) == [Appended(1), Conflict(10, "L")]
            assert await awake.load(name) == Stored("L", 10, 10, b"state", [])
            assert await sleeper.append([Append(name, 10, [Draft(b"11")], "L")]) == [Appended(11)]
            assert updates((await awake.load(name)).entries) == [b"11"]

    async def test_a_document_without_entries_goes_on(self, backend: StoreBackend, store: Store, other: Store) -> None:
        await fill(store, "before", 1)
        await fill(store, "a", 5)
        await store.snapshot("a", 5, b"state")
        assert await other.compact("a", 5) == 5
        reopened = await backend.open()
        try:
            for node in (store, other, reopened):
                assert await node.load("a") == Stored("L", 5, 5, b"state", [])
                assert await node.heads(["a"]) == {"a": 5}
                assert Change("a", 5) in (await node.changes(0, 10)).changes
            cursor = (await store.changes(0, 10)).cursor
            for head, node in enumerate([reopened, other, store], 6):
                assert await node.append([Append("a", head - 1, [Draft(b"%d" % head)], "L")]) == [Appended(head)]
            assert updates((await store.load("a")).entries) == [b"6", b"7", b"8"]
            assert (await store.changes(cursor, 10)).changes == [Change("a", 8)]
        finally:
            await reopened.close()

    async def test_loads_are_consistent_while_everything_moves(self, store: Store, other: Store) -> None:
        await fill(store, "a", 1)
        head, done = 1, False

        async def append() -> None:
            nonlocal head, done
            for _ in range(150):
                await store.append([Append("a", head, numbered(head + 1, head + 5), "L")])
                head += 5
            done = True

        async def shorten() -> None:
            while not done:
                await other.snapshot("a", head, b"%d" % head * 10_000)
                await other.compact("a", head - 3)

        async def look(node: Store) -> None:
            while not done:
                known = head
                stored = await node.load("a")
                assert stored.head >= known
                assert stored.snapshot in (None, b"%d" % stored.snapshot_seq * 10_000)
                seqs = list(range(stored.snapshot_seq + 1, stored.head + 1))
                assert [(entry.seq, entry.update) for entry in stored.entries] == [(seq, b"%d" % seq) for seq in seqs]

        await asyncio.gather(append(), shorten(), look(store), look(other), look(other))

    async def test_the_changes_feed(self, store: Store) -> None:
        for document in "abcde":
            await fill(store, document, 2)
        await store.append([Append("b", 2, [Draft(b"x")], "L"), Append("a", 2, [Draft(b"x")], "L")])
        page = await store.changes(0, 3)
        assert (page.changes, page.more) == ([Change("c", 2), Change("d", 2), Change("e", 2)], True)
        rest = await store.changes(page.cursor, 3)
        assert (rest.changes, rest.more) == ([Change("b", 3), Change("a", 3)], False)
        end = await store.changes(rest.cursor, 3)
        assert (end.changes, end.cursor, end.more) == ([], rest.cursor, False)
        await store.append([Append("d", 2, [Draft(b"x")], "L")])
        assert (await store.changes(end.cursor, 3)).changes == [Change("d", 3)]
        assert (await store.changes(page.cursor, 3)).changes == [Change("b", 3), Change("a", 3), Change("d", 3)]

    @pytest.mark.parametrize("cursor", [10**15, 2**63, 10**30])
    async def test_a_cursor_from_nowhere_finds_nothing(self, store: Store, cursor: int) -> None:
        await fill(store, "a", 1)
        page = await store.changes(cursor, 10)
        assert (page.changes, page.more) == ([], False)

    async def test_heads_of_documents_come_and_go(self, store: Store, other: Store) -> None:
        await fill(store, "a", 1)
        assert await store.heads(["a", "b"]) == {"a": 1}
        assert await store.heads(["a", "b"]) == {"a": 1}
        await fill(other, "b", 2)
        assert await store.heads(["b"]) == {"b": 2}
        await other.append([Append("a", 1, [Draft(b"x")], "L")])
        assert await store.heads(["a", "b", "c"]) == {"a": 2, "b": 2}
        assert await store.heads(iter(["a"])) == {"a": 2}
        assert await store.heads([]) == {}

    @pytest.mark.parametrize("seq", [1, 2, 127, 128, 129, 299, 300])
    async def test_a_hole_is_an_error_and_not_a_shorter_document(self, backend: StoreBackend, store: Store, seq: int) -> None:
        await fill(store, "a", 300)
        await fill(store, "b", 300)
        await backend.lose_entry("a", seq)
        with pytest.raises(StoreCorrupted) as raised:
            await store.load("a")
        assert raised.value.document == "a"
        with pytest.raises(StoreCorrupted):
            await store.read("a", seq - 1, 1)
        assert len((await store.load("b")).entries) == 300

    async def test_a_hole_before_the_snapshot_does_not_hinder_a_load(self, backend: StoreBackend, store: Store) -> None:
        await fill(store, "a", 20)
        await store.snapshot("a", 10, b"state")
        await backend.lose_entry("a", 5)
        assert len((await store.load("a")).entries) == 10
        with pytest.raises(StoreCorrupted):
            await store.read("a", 0, 20)

    @pytest.mark.parametrize("part", [0, 1, 2])
    @pytest.mark.parametrize("damage", ["lose_part", "shorten_part"])
    async def test_a_damaged_snapshot_is_an_error(self, backend: StoreBackend, store: Store, part: int, damage: str) -> None:
        await fill(store, "a", 3)
        await store.snapshot("a", 3, random.Random(5).randbytes(5 << 19))
        await getattr(backend, damage)("a", part)
        with pytest.raises(StoreCorrupted) as raised:
            await store.load("a")
        assert raised.value.document == "a"

    async def test_adopted_entries_keep_numbers_names_and_times(self, store: Store, other: Store) -> None:
        log = aged(1, 300)
        assert await store.adopt([Adoption("a", 0, log[:200], "L"), Adoption("b", 0, log[:1], "M")]) == [
            Appended(200),
            Appended(1),
        ]
        assert await other.adopt([Adoption("a", 200, log[200:], "L")]) == [Appended(300)]
        for node in (store, other):
            assert await node.load("a") == Stored("L", 300, 0, None, log)
            assert await whole_log(node, "a") == log
            assert await node.read("a", 127, 5) == log[127:132]
            assert await node.heads(["a", "b"]) == {"a": 300, "b": 1}
            assert sorted((await node.changes(0, 10)).changes) == [Change("a", 300), Change("b", 1)]
        assert await store.append([Append("a", 300, [Draft(b"on")], "L")]) == [Appended(301)]
        entries = (await other.load("a")).entries
        assert entries[:300] == log
        assert entries[300].time > 1_700_000_000_000

    async def test_the_same_adoption_again_changes_nothing(self, store: Store, other: Store) -> None:
        log = aged(1, 20)
        assert await store.adopt([Adoption("a", 0, log[:10], "L")]) == [Appended(10)]
        cursor = (await store.changes(0, 10)).cursor
        for node in (other, store):
            assert await node.adopt([Adoption("a", 0, log[:10], "L")]) == [Conflict(10, "L")]
            assert await node.adopt([Adoption("a", 5, log[5:], "L")]) == [Conflict(10, "L")]
            assert await node.adopt([Adoption("a", 12, log[12:], "L")]) == [Conflict(10, "L")]
            assert await node.adopt([Adoption("a", 10, log[10:], "M")]) == [Conflict(10, "L")]
            assert await node.adopt([Adoption("void", 12, log[12:], "L")]) == [Conflict(0, "")]
        assert await whole_log(store, "a") == log[:10]
        assert (await store.changes(cursor, 10)).changes == []
        assert (await store.load("void")) == Stored()

    async def test_a_log_that_begins_behind_a_number(self, backend: StoreBackend, store: Store, other: Store) -> None:
        log = aged(101, 400)
        beginning = Adoption("a", 100, [], "L")
        assert await store.adopt([beginning]) == [Appended(100)]
        assert await other.adopt([beginning]) == [Appended(100)]
        assert (await store.changes(0, 10)).changes == [Change("a", 100)]
        for change in (Adoption("a", 99, [], "L"), Adoption("a", 100, [], "M"), Adoption("a", 0, aged(1, 1), "L")):
            assert await other.adopt([change]) == [Conflict(100, "L")]
        with pytest.raises(StoreCorrupted):
            await store.load("a")
        assert await other.adopt([Adoption("a", 100, log[:200], "L")]) == [Appended(300)]
        with pytest.raises(StoreCorrupted):
            await other.load("a")
        assert await other.adopt([beginning]) == [Conflict(300, "L")]
        assert await store.read("a", 0, 1000) == log[:200]
        await store.snapshot("a", 250, b"state")
        assert await store.adopt([Adoption("a", 300, log[200:], "L")]) == [Appended(400)]
        reopened = await backend.open()
        try:
            for node in (store, other, reopened):
                assert await node.load("a") == Stored("L", 400, 250, b"state", log[150:])
                assert await node.read("a", 0, 1000) == log
                assert await node.heads(["a"]) == {"a": 400}
                assert (await node.changes(0, 10)).changes == [Change("a", 400)]
            answers = await reopened.append([Append("a", 400, [Draft(b"on")], "L")])
            assert isinstance(answers[0], Appended)
            assert answers[0].head == 401
            assert await store.compact("a", 200) == 100
            assert [entry.seq for entry in await other.read("a", 0, 1000)] == list(range(201, 402))
        finally:
            await reopened.close()

    async def test_a_log_that_is_all_compacted_can_be_adopted(self, store: Store, other: Store) -> None:
        await fill(store, "before", 2)
        assert await store.adopt([Adoption("a", 7, [], "L"), Adoption("b", 0, aged(1, 1), "M")]) == [Appended(7), Appended(1)]
        await store.snapshot("a", 7, b"seven")
        for node in (store, other):
            assert await node.load("a") == Stored("L", 7, 7, b"seven", [])
        assert await other.append([Append("a", 7, [Draft(b"8")], "L")]) == [Appended(8)]
        assert updates((await store.load("a")).entries) == [b"8"]

    async def test_who_knew_of_no_document_does_not_append_under_an_adopted_one(self, store: Store, other: Store) -> None:
        assert (await other.load("a")).head == 0
        assert await other.append([Append("a", 3, [Draft(b"no")], "L")]) == [Conflict(0, "")]
        assert await store.adopt([Adoption("a", 100, [], "L")]) == [Appended(100)]
        assert await other.append([Append("a", 0, [Draft(b"no")], "M")]) == [Conflict(100, "L")]
        assert await store.read("a", 0, 10) == []

    async def test_adoptions_that_are_none_are_the_callers_mistake(self, store: Store) -> None:
        log = aged(1, 5)
        for batch in (
            [Adoption("a", 0, log, "L")] * 2,
            [Adoption("a", 1, log, "L")],
            [Adoption("a", 0, log[::-1], "L")],
            [Adoption("a", 0, [*log[:2], *log[3:]], "L")],
            [Adoption("a", 0, [], "L")],
        ):
            with pytest.raises(ValueError, match=r"number|twice"):
                await store.adopt(batch)
        assert (await store.changes(0, 10)).changes == []

    async def test_a_feed_has_one_name(self, backend: StoreBackend, store: Store, other: Store) -> None:
        name = (await store.changes(0, 1)).feed
        assert len(name) == 16
        assert (await other.changes(0, 1)).feed == name
        await store.close()
        reopened = await backend.open()
        assert (await reopened.changes(0, 1)).feed == name
        await reopened.close()

    async def test_an_append_whose_caller_went_away(self, store: Store) -> None:
        appending = asyncio.create_task(store.append([Append("a", 0, [Draft(b"x")], "L")]))
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
        (answer,) = await store.append([Append("a", 0, [Draft(b"y")], "L")])
        if isinstance(answer, Conflict):
            assert await store.append([Append("a", answer.head, [Draft(b"y")], "L")]) == [Appended(2)]
        log = await whole_log(store, "a")
        assert updates(log) == ([b"y"] if isinstance(answer, Appended) else [b"x", b"y"])

    async def test_closing_finishes_what_is_under_way(self, backend: StoreBackend, store: Store) -> None:
        under_way = [asyncio.create_task(store.append([Append(f"d{n}", 0, numbered(1, 50), "L")])) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert await asyncio.gather(*under_way) == [[Appended(50)]] * 50
        await store.close()
        reopened = await backend.open()
        assert len(await reopened.heads([f"d{n}" for n in range(50)])) == 50
        await reopened.close()

    async def test_a_store_in_order_says_so(self, store: Store, other: Store) -> None:
        await store.check()
        await fill(store, "a", 1)
        await other.check()
        assert (await store.load("a")).head == 1


class Writing:
    """A running `tests.contracts.writer`."""

    def __init__(self, command: list[str]) -> None:
        self._started = asyncio.create_task(asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE))

    async def finish(self) -> list[tuple[str, int, bytes]]:
        """Wait for the end of the process: all it acknowledged."""
        process = await self._started
        assert process.stdout is not None
        lines = (await process.stdout.read()).splitlines()
        assert await process.wait() == 0
        return [_acknowledgement(line) for line in lines]

    async def kill_after(self, count: int) -> list[tuple[str, int, bytes]]:
        """SIGKILL after `count` lines: all that was acknowledged before it died."""
        process = await self._started
        assert process.stdout is not None
        lines: list[bytes] = []
        while len(lines) < count:
            line = await process.stdout.readline()
            assert line, "the writer ended by itself"
            lines.append(line)
        process.kill()
        # What it printed between was acknowledged too; a line cut short was not printed in full.
        lines += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()
        return [_acknowledgement(line) for line in lines if line.endswith(b"\n")]


def _acknowledgement(line: bytes) -> tuple[str, int, bytes]:
    document, seq, update = line.rstrip(b"\n").split(b"\t")
    return document.decode(), int(seq), update
