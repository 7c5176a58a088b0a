"""The metrics of several workers as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from server.metrics import Counters, Metrics
from server.workers.gathering import Gathering


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: a socket's path has to be short."""
    with TemporaryDirectory(prefix="ebbtide-") as name:
        yield Path(name)


def metrics(sockets: int) -> Metrics:
    counters = Counters(sockets_opened=sockets)
    counters.sockets_closed["1012"] = sockets
    return Metrics(counters)


async def lines(gathering: Gathering, name: str) -> list[str]:
    exposition = (await gathering.exposition()).decode()
    return sorted(line for line in exposition.splitlines() if line.startswith(name))


async def test_whoever_is_asked_answers_for_all(folder: Path) -> None:
    workers = [Gathering(folder, number, 2, metrics(number + 5).exposition) for number in range(2)]
    await workers[0].open()
    assert await lines(workers[0], "ebbtide_worker_up") == [
        'ebbtide_worker_up{worker="0"} 1.0',
        'ebbtide_worker_up{worker="1"} 0.0',
    ]
    await workers[1].open()
    for worker in workers:
        assert await lines(worker, "ebbtide_sockets") == [
            'ebbtide_sockets_closed_total{code="1012",worker="0"} 5.0',
            'ebbtide_sockets_closed_total{code="1012",worker="1"} 6.0',
            'ebbtide_sockets_opened_total{worker="0"} 5.0',
            'ebbtide_sockets_opened_total{worker="1"} 6.0',
        ]
        assert len(await lines(worker, "# TYPE ebbtide_sockets_opened_total counter")) == 1
    for worker in workers:
        await worker.close()


async def test_one_that_was_killed_is_succeeded(folder: Path) -> None:
    (folder / "1").touch()
    workers = [Gathering(folder, number, 2, metrics(1).exposition) for number in range(2)]
    for worker in workers:
        await worker.open()
    assert 'ebbtide_worker_up{worker="1"} 1.0' in await lines(workers[0], "ebbtide_worker_up")
    for worker in workers:
        await worker.close()


@pytest.mark.parametrize("said", [b"", b"\x00\x00\x01\x00# TYPE ebbtide_sockets_opened"])
async def test_one_that_ends_while_it_answers_is_shown_so(folder: Path, said: bytes) -> None:
    async def say_a_part(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    ending = await asyncio.start_unix_server(say_a_part, path=str(folder / "1"))
    worker = Gathering(folder, 0, 2, metrics(1).exposition)
    assert 'ebbtide_worker_up{worker="1"} 0.0' in await lines(worker, "ebbtide_worker_up")
    ending.close()


async def test_one_that_does_not_answer_is_shown_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.workers.gathering.ANSWER_SECONDS", 0.05)
    asked = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked.wait()
        writer.close()

    stuck = await asyncio.start_unix_server(say_nothing, path=str(folder / "1"))
    worker = Gathering(folder, 0, 2, metrics(1).exposition)
    assert 'ebbtide_worker_up{worker="1"} 0.0' in await lines(worker, "ebbtide_worker_up")
    asked.set()
    stuck.close()
