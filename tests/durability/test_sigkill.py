"""Promise 1: acknowledged means durable. The server is killed under load, and everything acknowledged is looked for."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.durability.clients import Ledger, marks, write_collab, write_live, write_queue
from tests.harness.server_process import ServerProcess

ROUNDS = 20
SEED = 20_240_607
DOCUMENTS = ["one", "two", "three"]
PATIENCE = 30.0


async def until_gone(writer: Coroutine[None, None, None]) -> None:
    """Run a writer until its server goes; how the connection ends is not the writer's concern."""
    with suppress(aiohttp.ClientError, OSError):
        await writer


def writers(server: ServerProcess, name: str, ledger: Ledger) -> list[Coroutine[None, None, None]]:
    url = server.url
    return [
        *[
            until_gone(write_live(url, document, f"{name}-live-{index}", ledger))
            for index, document in enumerate([*DOCUMENTS, "one"])
        ],
        *[until_gone(write_collab(url, document, f"{name}-collab", ledger)) for document in ("one", "two")],
        until_gone(write_queue(url, DOCUMENTS, f"{name}-queue", ledger)),
    ]


async def missing(server: ServerProcess, ledger: Ledger) -> dict[str, set[str]]:
    """The marks that were acknowledged and are not there."""
    return {
        document: lost
        for document, acknowledged in ledger.acknowledged.items()
        if (lost := acknowledged - await marks(server.url, document))
    }


async def test_what_was_acknowledged_survives_sigkill_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    ledger = Ledger()
    with ServerProcess(tmp_path / "data") as server:
        for turn in range(ROUNDS):
            before = ledger.total
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                for writer in writers(server, f"r{turn}", ledger):
                    group.create_task(writer)
                await ledger.reach(before + chance.randint(1, 150))
                await asyncio.sleep(chance.random() * 0.03)
                os.kill(server.pid, signal.SIGKILL)
            await asyncio.to_thread(server.kill)
            assert ledger.total > before
            await asyncio.to_thread(server.start)
            assert await missing(server, ledger) == {}, f"lost in round {turn} of seed {SEED}"
    assert set(ledger.acknowledged) == set(DOCUMENTS)


@pytest.mark.parametrize("extra", [(), ("--workers", "2")])
async def test_sigterm_under_load_loses_nothing_and_ends_in_order(tmp_path: Path, extra: tuple[str, ...]) -> None:
    ledger = Ledger()
    with ServerProcess(tmp_path / "data", *extra) as server:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for writer in writers(server, "w", ledger):
                group.create_task(writer)
            await ledger.reach(200)
            assert await asyncio.to_thread(server.stop, 10.0) == 0
        assert ledger.close_codes == [aiohttp.WSCloseCode.SERVICE_RESTART] * 6
        assert "Traceback" not in server.errors
        await asyncio.to_thread(server.start)
        assert await missing(server, ledger) == {}
