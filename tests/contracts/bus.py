"""The promises of `sync.rooms.ports.Bus`, attacked."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from sync.rooms.ports import Bus, Draft

Connect = Callable[[], Awaitable[Bus]]
ONE = [Draft(b"one", "ann", "phone")]
TWO = [Draft(b"two"), Draft(bytes(range(256)))]


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, list[Draft]]] = []
        self._news = asyncio.Event()

    def __call__(self, document: str, after: int, drafts: Sequence[Draft]) -> None:
        self.heard.append((document, after, list(drafts)))
        self._news.set()

    async def until(self, count: int) -> list[tuple[str, int, list[Draft]]]:
        """Everything heard, once there are `count` pieces of news."""
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.heard


class BusContract(ABC):
    """Derive from this, name the class `Test...`, and provide the fixture `connect`.

    News may be lost, says the port; a backend that runs undisturbed, as here, loses none.
    """

    @pytest.fixture
    @abstractmethod
    def connect(self) -> Connect:
        """An async function that gives one more node's end of one and the same bus."""

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
        ends[0].publish("a", 0, ONE)
        ends[1].publish("a", 1, TWO)
        first, second = ("a", 0, ONE), ("a", 1, TWO)
        assert await ears[0].until(1) == [second]
        assert await ears[1].until(1) == [first]
        assert sorted(await ears[2].until(2)) == [first, second]

    async def test_only_the_document_subscribed_to_is_heard(self, ends: list[Bus]) -> None:
        names = ["a", "A", "a*", "a?", "*", "a/b", "\u00e1", "a\u0301", "\U0001f9ed", "x" * 200]
        ears = {name: Ear() for name in names}
        for name, ear in ears.items():
            ends[1].subscribe(name, ear)
        for number, name in enumerate(names):
            ends[0].publish(name, number, ONE)
        for number, name in enumerate(names):
            assert await ears[name].until(1) == [(name, number, ONE)]

    async def test_subscribing_twice_is_subscribing_once(self, ends: list[Bus]) -> None:
        ear, last = Ear(), Ear()
        ends[1].subscribe("a", ear)
        ends[1].subscribe("a", ear)
        ends[1].subscribe("z", last)
        ends[0].publish("a", 0, ONE)
        ends[0].publish("z", 0, ONE)
        await last.until(1)
        assert ear.heard == [("a", 0, ONE)]
        ends[1].unsubscribe("a", ear)
        ends[0].publish("a", 1, TWO)
        ends[0].publish("z", 1, TWO)
        await last.until(2)
        assert ear.heard == [("a", 0, ONE)]

    async def test_unsubscribing_one_listener_leaves_the_others(self, ends: list[Bus]) -> None:
        gone, stays = Ear(), Ear()
        ends[1].subscribe("a", gone)
        ends[1].subscribe("a", stays)
        ends[1].unsubscribe("a", gone)
        ends[1].unsubscribe("a", gone)
        ends[1].unsubscribe("b", stays)
        ends[0].publish("a", 0, ONE)
        assert await stays.until(1) == [("a", 0, ONE)]
        assert gone.heard == []

    async def test_a_listener_may_end_subscriptions_while_it_is_called(self, ends: list[Bus]) -> None:
        ear, later = Ear(), Ear()

        def once(document: str, after: int, drafts: Sequence[Draft]) -> None:
            ear(document, after, drafts)
            ends[1].unsubscribe("a", once)
            ends[1].unsubscribe("a", later)

        ends[1].subscribe("a", once)
        ends[1].subscribe("a", later)
        witness = Ear()
        ends[2].subscribe("a", witness)
        ends[0].publish("a", 0, ONE)
        ends[0].publish("a", 1, TWO)
        await witness.until(2)
        assert await ear.until(1) == [("a", 0, ONE)]
        assert later.heard == []

    async def test_a_closed_end_is_silent_and_the_others_go_on(self, ends: list[Bus]) -> None:
        closed, stays = Ear(), Ear()
        ends[1].subscribe("a", closed)
        ends[2].subscribe("a", stays)
        await ends[1].close()
        await ends[1].close()
        ends[0].publish("a", 0, ONE)
        assert await stays.until(1) == [("a", 0, ONE)]
        assert closed.heard == []

    async def test_publishing_without_listeners(self, ends: list[Bus]) -> None:
        ends[0].publish("nobody", 0, ONE)
        ear = Ear()
        ends[1].subscribe("nobody", ear)
        ends[0].publish("nobody", 1, TWO)
        assert ("nobody", 1, TWO) in await ear.until(1)
