"""The bus between the workers of one machine: the contract, and workers that come, go, are stuck or read slowly."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from server.bus.siblings import UNSENT_BYTES, SiblingBus, open_siblings
from sync.rooms.ports import Bus, Draft, NewEntries, NewPresence
from tests.contracts.bus import ONE, BusContract, Connect, Ear


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: a socket's path has to be short."""
    with TemporaryDirectory(prefix="ebbtide-") as name:
        yield Path(name)


class TestSiblingBus(BusContract):
    @pytest.fixture
    def connect(self, folder: Path) -> Connect:
        async def connect() -> Bus:
            return await open_siblings(folder)

        return connect


@pytest.fixture
async def ends(folder: Path) -> AsyncIterator[list[SiblingBus]]:
    ends = [await open_siblings(folder) for _ in range(2)]
    yield ends
    for end in ends:
        await end.close()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def met(end: SiblingBus, count: int) -> None:
    async with asyncio.timeout(10):
        while end.siblings != count:
            await asyncio.sleep(0.005)


async def test_ends_that_open_at_the_same_time_meet_once(folder: Path) -> None:
    ends = await asyncio.gather(*[open_siblings(folder) for _ in range(5)])
    ears = [Ear() for _ in ends]
    for end, ear in zip(ends, ears, strict=True):
        await met(end, 4)
        end.subscribe("a", ear)
    for number, end in enumerate(ends):
        end.publish("a", NewEntries(number, ONE, "L"))
    for number, ear in enumerate(ears):
        heard = [news for _, news in await ear.until(4)]
        assert sorted(heard) == [NewEntries(other, ONE, "L") for other in range(5) if other != number]
    for end in ends:
        await end.close()
    assert names(folder) == []


async def test_an_end_that_was_killed_is_forgotten_and_its_successor_heard(folder: Path, ends: list[SiblingBus]) -> None:
    # What a SIGKILL leaves: a name, and nobody who listens.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "00000000"))
    successor = await open_siblings(folder)
    assert successor.siblings == 2
    assert not (folder / "00000000").exists()
    ear = Ear()
    ends[0].subscribe("a", ear)
    successor.publish("a", NewEntries(0, ONE, "L"))
    assert await ear.until(1) == [("a", NewEntries(0, ONE, "L"))]
    await successor.close()
    await met(ends[0], 1)


async def test_a_sibling_that_does_not_read_costs_a_bounded_queue_and_no_waiting(folder: Path) -> None:
    async with asyncio.timeout(30):
        talker = await open_siblings(folder)
        (name,) = names(folder)
        listener = await open_siblings(folder)
        with socket.socket(socket.AF_UNIX) as stuck, socket.socket(socket.AF_UNIX) as greeting:
            # As a stopped worker: connections come in, and nobody reads them.
            stuck.bind(str(folder / "11111111"))
            stuck.listen()
            greeting.connect(str(folder / name))
            greeting.sendall(struct.pack(">I", 4) + bytes.fromhex("11111111"))
            await met(talker, 2)
            ear = Ear()
            listener.subscribe("a", ear)
            news = NewEntries(0, [Draft(bytes(900_000))], "L")
            for number in range(2 * UNSENT_BYTES // 900_000):
                talker.publish("a", news)
                await ear.until(number + 1)
            assert talker.dropped > 0
        for end in (listener, talker):
            await end.close()


async def test_presence_that_is_too_large_is_dropped(ends: list[SiblingBus]) -> None:
    ear = Ear()
    ends[1].subscribe("a", ear)
    ends[0].publish("a", NewPresence(bytes(17 << 20)))
    ends[0].publish("a", NewPresence(b"\x00"))
    assert await ear.until(1) == [("a", NewPresence(b"\x00"))]
    assert ends[0].dropped == 1


@pytest.mark.parametrize(
    "said", [struct.pack(">I", 5) + b"Hello", struct.pack(">I", 1 << 31), struct.pack(">I", 4) + b"abcd" + b"\xff" * 4]
)
async def test_a_stranger_is_sent_away(folder: Path, ends: list[SiblingBus], said: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(folder / names(folder)[0])
    writer.write(said)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_what_is_no_news_does_not_end_the_way(folder: Path, ends: list[SiblingBus]) -> None:
    ear = Ear()
    for end in ends:
        end.subscribe("a", ear)
    content = struct.pack(">H", 1) + b"a" + b"\xc1"
    async with asyncio.timeout(10):
        _, writer = await asyncio.open_unix_connection(folder / names(folder)[0])
        writer.write(struct.pack(">I", 4) + bytes(4) + struct.pack(">I", len(content)) + content)
        writer.write(struct.pack(">I", 1) + b"\xff")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    ends[0].publish("a", NewEntries(0, ONE, "L"))
    assert await ear.until(1) == [("a", NewEntries(0, ONE, "L"))]
