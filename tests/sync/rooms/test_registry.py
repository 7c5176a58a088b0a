"""The rooms of a node: opened once, bounded, polled, and closed in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from server.bus.local import LocalBus
from server.stores.sqlite import open_sqlite
from sync.protocol.messages import SyncStep2
from sync.rooms.errors import Overloaded, ShuttingDown
from sync.rooms.ports import Append, Appended, Conflict
from sync.rooms.registry import Rooms
from sync.rooms.room import Room
from tests.sync.rooms.kit import PATIENCE, QUICK, Interruptible, edits, node

T = TypeVar("T")


async def test_a_document_has_one_room_until_that_failed(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        room = here.rooms.open("d")
        assert here.rooms.open("d") is room
        here.store.away = True
        room.catch_up_with_store(1)
        with pytest.raises(Exception, match="switched off"):
            await here.pull()
        here.store.away = False
        again = here.rooms.open("d")
        assert again is not room
        await here.pull()
        assert len(here.rooms) == 1


async def test_rooms_that_nobody_is_in_make_place_and_the_others_do_not(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(rooms=3)) as here:
        client = await here.client("kept")
        for index in range(50):
            await here.pull(f"d{index}")
            assert len(here.rooms) <= 3
        assert "kept" in {room.name for room in here.rooms}
        stay = [await here.client("two"), await here.client("three")]
        with pytest.raises(Overloaded):
            here.rooms.open("four")
        update = client.edit("a")
        client.send(update)
        await client.acknowledged(update)
        here.rooms.open("three").leave(stay[1].peer)
        here.rooms.open("four")


async def test_unused_rooms_go_by_themselves(tmp_path: Path) -> None:
    async with node(tmp_path, QUICK._replace(idle_after=0.0)) as here:
        await here.rooms.open("d").push([edits("a")[0]], "", "", [None])
        async with asyncio.timeout(PATIENCE):
            while len(here.rooms):
                await asyncio.sleep(0.02)
        assert (await here.client()).text == "a"


async def test_a_node_without_news_finds_what_another_wrote_by_polling(tmp_path: Path) -> None:
    async with node(tmp_path) as here, node(tmp_path) as there:
        reader, writer = await here.client(), await there.client()
        update = writer.edit("a")
        writer.send(update)
        await reader.outlet.until(lambda outlet: update in outlet.updates)


async def test_polling_survives_a_store_that_was_away(tmp_path: Path) -> None:
    async with node(tmp_path) as here, node(tmp_path) as there:
        reader, writer = await here.client(), await there.client()
        here.store.away = True
        update = writer.edit("a")
        writer.send(update)
        await writer.acknowledged(update)
        await asyncio.sleep(QUICK.poll_interval * 3)
        assert reader.outlet.updates == []
        here.store.away = False
        await reader.outlet.until(lambda outlet: update in outlet.updates)


async def test_polling_survives_a_mistake_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(tmp_path) as here, node(tmp_path) as there:
        reader, writer = await here.client(), await there.client()
        heads = here.store.heads

        def fails(documents: object) -> Awaitable[dict[str, int]]:
            monkeypatch.setattr(here.store, "heads", heads)
            raise KeyError("a mistake of ours")

        monkeypatch.setattr(here.store, "heads", fails)
        update = writer.edit("a")
        writer.send(update)
        await reader.outlet.until(lambda outlet: update in outlet.updates)
    assert "a mistake of ours" in caplog.text


@pytest.mark.parametrize("step", ["unload", "drain", "catch_up_with_store"])
async def test_a_room_that_fails_now_and_then_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    works = getattr(Room, step)

    def fails(room: Room, *arguments: Any) -> Any:
        if room.name == "bad":
            raise KeyError("a mistake of ours")
        return works(room, *arguments)

    monkeypatch.setattr(Room, step, fails)
    async with node(tmp_path, QUICK._replace(idle_after=0.0)) as here, node(tmp_path) as there:
        bad, good = await here.client("bad"), await here.client("good")
        for client, name in ((bad, "bad"), (good, "good")):
            client.outlet.stuck = QUICK.backlog_bytes + 1
            writer = await there.client(name)
            writer.send(update := writer.edit("a"))
            await writer.acknowledged(update)
        await bad.outlet.until(lambda outlet: outlet.errors)
        good.outlet.stuck = 0
        await good.outlet.until(lambda outlet: update in outlet.updates or outlet.of(SyncStep2)[1:])
        assert good.outlet.errors == []
        here.rooms.open("good").leave(good.peer)
        async with asyncio.timeout(PATIENCE):
            while len(here.rooms):
                await asyncio.sleep(0.02)
    assert "a mistake of ours" in caplog.text


async def test_a_node_that_stops_opens_nothing_new_and_commits_what_it_has(tmp_path: Path) -> None:
    async with node(tmp_path) as here:
        client = await here.client()
        here.rooms.stop()
        with pytest.raises(ShuttingDown):
            here.rooms.open("new")
        update = client.edit("a")
        client.send(update)
        await here.rooms.settle()
        assert client.outlet.updates == [update]
        assert await here.stored_text() == "a"


class Stubborn(Interruptible):
    """A store that loses cancellations, as drivers do."""

    async def append(self, batch: Sequence[Append]) -> Sequence[Appended | Conflict]:
        return await self._stubborn(super().append(batch))

    async def heads(self, documents: Iterable[str]) -> dict[str, int]:
        return await self._stubborn(super().heads(documents))

    async def _stubborn(self, answer: Awaitable[T]) -> T:
        asked = asyncio.ensure_future(answer)
        while not asked.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(asked)
        return asked.result()


async def test_closing_ends_although_the_store_loses_cancellations(tmp_path: Path) -> None:
    store = Stubborn(await open_sqlite(tmp_path / "store.sqlite"))
    rooms = Rooms(store, LocalBus().connect(), QUICK._replace(poll_interval=0))
    store.gate.clear()
    push = asyncio.create_task(rooms.open("d").push([edits("a")[0]], "", "", [None]))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(rooms.close())
    await asyncio.sleep(0.05)
    store.gate.set()
    async with asyncio.timeout(PATIENCE):
        await closing
    push.cancel()
    await store.close()
