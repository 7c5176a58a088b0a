"""Which documents have changed, and how far each has come."""

from __future__ import annotations

import pytest

from sync.rooms.ports import Append, Change, Draft, Store
from tests.contracts.store.backend import StoreBackend
from tests.contracts.store.logs import fill
from tests.contracts.store.places import Places


class Changes(Places):
    """Promises of `changes` and `heads`."""

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

    async def test_a_feed_has_one_name(self, backend: StoreBackend, store: Store, other: Store) -> None:
        name = (await store.changes(0, 1)).feed
        assert len(name) == 16
        assert (await other.changes(0, 1)).feed == name
        await store.close()
        reopened = await backend.open()
        assert (await reopened.changes(0, 1)).feed == name
        await reopened.close()

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
