"""Snapshots shorten a load, and compaction a log."""

from __future__ import annotations

import asyncio
import random

from sync.rooms.ports import Append, Appended, Change, Conflict, Draft, Store, Stored
from tests.contracts.store.backend import StoreBackend
from tests.contracts.store.logs import fill, numbered, updates
from tests.contracts.store.places import Places


class Snapshots(Places):
    """Promises of `snapshot` and `compact`."""

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
