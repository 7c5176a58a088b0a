"""Logs that come from another store keep what they had there."""

from __future__ import annotations

import pytest

from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Adoption, Append, Appended, Change, Conflict, Draft, Store, Stored
from tests.contracts.store.backend import StoreBackend
from tests.contracts.store.logs import aged, fill, updates, whole_log
from tests.contracts.store.places import Places


class Adoptions(Places):
    """Promises of `adopt`."""

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
