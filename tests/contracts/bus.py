"""The promises of `sync.rooms.ports.Bus`, attacked."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from sync.rooms.ports import Bus, Draft, NewEntries, NewPresence, News, PresenceWanted

Connect = Callable[[], Awaitable[Bus]]
ONE = [Draft(b"one", "ann", "phone")]
TWO = [Draft(b"two"), Draft(bytes(range(256)))]


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, News]] = []
        self._news = asyncio.Event()

    def __call__(self, document: str, news: News) -> None:
        self.heard.append((document, news))
        self._news.set()

    async def until(self, count: int) -> list[tuple[str, News]]:
        """Everything heard, once there are `count` pieces of news."""
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard


class EntriesContract(ABC):
    """What holds of every bus, also of one that carries entries alone.

    Derive from this, name the class `Test...`, and provide the fixture `connect`.

    News may be lost, says the port; a backend that runs undisturbed, as here, loses none.
    """

    @pytest.fixture
    @abstractmethod
    def connect(self) -> Connect:
        """An async function that gives one more node's end of one and the same bus."""

    async def settled(self, ends: list[Bus]) -> None:  # noqa: B027 - most need not wait
        """Return when all subscriptions are in effect."""

    @pytest.fixture
    async def ends(self, connect: Connect) -> AsyncIterator[list[Bus]]:
        """The ends of three nodes."""
        ends = [await connect() for _ in range(3)]
        yield ends
        for end in ends:
            await end.close()

    async def test_all_but_the_publisher_hear(self, ends: list[Bus]) -> None:
        ears = [Ear() for _ in ends]
        for end, ear in zip(ends, ears, strict=True):
            end.subscribe("a", ear)
        await self.settled(ends)
        ends[0].publish("a", NewEntries(0, ONE, "L"))
        ends[1].publish("a", NewEntries(1, TWO, "L"))
        first, second = ("a", NewEntries(0, ONE, "L")), ("a", NewEntries(1, TWO, "L"))
        assert await ears[0].until(1) == [second]
        assert await ears[1].until(1) == [first]
        assert sorted(await ears[2].until(2)) == [first, second]

    async def test_only_the_document_subscribed_to_is_heard(self, ends: list[Bus]) -> None:
        names = ["a", "A", "a*", "a?", "*", "a/b", "\u00e1", "a\u0301", "\U0001f9ed", "x" * 200]
        ears = {name: Ear() for name in names}
        for name, ear in ears.items():
            ends[1].subscribe(name, ear)
        await self.settled(ends)
        for number, name in enumerate(names):
            ends[0].publish(name, NewEntries(number, ONE, "L"))
        for number, name in enumerate(names):
            assert await ears[name].until(1) == [(name, NewEntries(number, ONE, "L"))]

    async def test_subscribing_twice_is_subscribing_once(self, ends: list[Bus]) -> None:
        ear, last = Ear(), Ear()
        ends[1].subscribe("a", ear)
        ends[1].subscribe("a", ear)
        ends[1].subscribe("z", last)
        await self.settled(ends)
        ends[0].publish("a", NewEntries(0, ONE, "L"))
        ends[0].publish("z", NewEntries(0, ONE, "L"))
        await last.until(1)
        assert ear.heard == [("a", NewEntries(0, ONE, "L"))]
        ends[1].unsubscribe("a", ear)
        ends[0].publish("a", NewEntries(1, TWO, "L"))
        ends[0].publish("z", NewEntries(1, TWO, "L"))
        await last.until(2)
        assert ear.heard == [("a", NewEntries(0, ONE, "L"))]

    async def test_unsubscribing_one_listener_leaves_the_others(self, ends: list[Bus]) -> None:
        gone, stays = Ear(), Ear()
        ends[1].subscribe("a", gone)
        ends[1].subscribe("a", stays)
        ends[1].unsubscribe("a", gone)
        ends[1].unsubscribe("a", gone)
        ends[1].unsubscribe("b", stays)
        await self.settled(ends)
        ends[0].publish("a", NewEntries(0, ONE, "L"))
        assert await stays.until(1) == [("a", NewEntries(0, ONE, "L"))]
        assert gone.heard == []

    async def test_a_listener_may_end_subscriptions_while_it_is_called(self, ends: list[Bus]) -> None:
        ear, later = Ear(), Ear()

        def once(document: str, news: News) -> None:
            ear(document, news)
            ends[1].unsubscribe("a", once)
            ends[1].unsubscribe("a", later)

        ends[1].subscribe("a", once)
        ends[1].subscribe("a", later)
        witness = Ear()
        ends[2].subscribe("a", witness)
        await self.settled(ends)
        ends[0].publish("a", NewEntries(0, ONE, "L"))
        ends[0].publish("a", NewEntries(1, TWO, "L"))
        await witness.until(2)
        assert await ear.until(1) == [("a", NewEntries(0, ONE, "L"))]
        assert later.heard == []

    async def test_a_closed_end_is_silent_and_the_others_go_on(self, ends: list[Bus]) -> None:
        closed, stays = Ear(), Ear()
        ends[1].subscribe("a", closed)
        ends[2].subscribe("a", stays)
        await self.settled(ends)
        await ends[1].close()
        await ends[1].close()
        ends[0].publish("a", NewEntries(0, ONE, "L"))
        assert await stays.until(1) == [("a", NewEntries(0, ONE, "L"))]
        assert closed.heard == []

    async def test_publishing_without_listeners(self, ends: list[Bus]) -> None:
        ends[0].publish("nobody", NewEntries(0, ONE, "L"))
        ear = Ear()
        ends[1].subscribe("nobody", ear)
        await self.settled(ends)
        ends[0].publish("nobody", NewEntries(1, TWO, "L"))
        while ("nobody", NewEntries(1, TWO, "L")) not in ear.heard:
            await ear.until(len(ear.heard) + 1)

    async def test_entries_too_large_for_a_bus_are_at_least_announced(self, ends: list[Bus]) -> None:
        ear = Ear()
        ends[1].subscribe("a", ear)
        await self.settled(ends)
        large = NewEntries(7, [Draft(bytes(9 << 20)), Draft(b"x")], "L")
        ends[0].publish("a", large)
        ((_, news),) = await ear.until(1)
        assert news in (large, NewEntries(9, [], "L"))


class BusContract(EntriesContract):
    """And of one that carries presence too."""

    async def test_every_kind_of_news_comes_as_it_was_told(self, ends: list[Bus]) -> None:
        ear = Ear()
        ends[1].subscribe("a", ear)
        await self.settled(ends)
        told: list[News] = [NewPresence(b"\x00"), PresenceWanted(), NewEntries(7, TWO, "L"), NewPresence(bytes(range(256)))]
        for news in told:
            ends[0].publish("a", news)
        assert [news for _, news in await ear.until(4)] == told
