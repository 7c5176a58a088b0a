"""Processes that write to the same documents, are killed, come again, and go."""

from __future__ import annotations

import asyncio
import sys

import pytest

from sync.rooms.ports import Append, Appended, Conflict, Draft, Store
from tests.contracts.store.backend import StoreBackend
from tests.contracts.store.logs import drain, fill, numbered, updates, whole_log
from tests.contracts.store.places import Places
from tests.contracts.store.writing import Writing
from tests.contracts.writer import LINEAGE

FEED_PATIENCE = 100.0
"""Seconds: what a dead process holds up may take a minute."""


class Processes(Places):
    """Promises across processes, restarts and closing."""

    def start_writer(self, backend: StoreBackend, name: str, commits: int) -> Writing:
        """A process that appends to five shared documents."""
        return Writing([sys.executable, "-m", "tests.contracts.writer", backend.opener, backend.address, name, "5",
                        str(commits)])  # fmt: skip

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
