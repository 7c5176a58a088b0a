"""What is appended is there as it was written, in order, or is a conflict."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from sync.rooms.ports import Append, Appended, Change, Conflict, Draft, Store, Stored
from tests.contracts.store.logs import fill, numbered, updates, whole_log
from tests.contracts.store.places import Places

NEIGHBOURS = [
    "a", "A", "\u00e1", "a\u0301", "a/b", "a/", "a%", "a_", "a*", "a?b", "a'b", 'a"b', "a.b", "a b", " a", "a ", "$a",
    "1", "01", "1.0", "1e0", "null", "\U0001f9ed", "\U0001f9ed\U0001f3fd", "\ufeffa", "\u212b", "\u00c5", "ss",
    "\u00df", "x" * 199, "x" * 200, "\u00e9" * 100, "\U0001f9ed" * 50,
]  # fmt: skip


class Appends(Places):
    """Promises of `append`, and of reading what it wrote."""

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
