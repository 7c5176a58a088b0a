"""A node says that its store is away whatever it was that failed last, and that it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from sync.rooms.errors import StoreUnavailable
from sync.rooms.store_health import Asked, StoreHealth
from tests.sync.rooms.kit import PATIENCE, node

LOGGER = "sync.rooms.store_health"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_store_that_is_away_shows_although_nobody_writes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        async with node(tmp_path) as here:
            assert here.rooms.health.healthy
            here.store.away = True
            await until(lambda: not here.rooms.health.healthy)
            here.store.away = False
            await until(lambda: here.rooms.health.healthy)
    assert [record.message for record in caplog.records] == ["store not polled", "store available again"]


async def test_a_store_that_cannot_be_written_to_shows_although_it_is_polled_and_nobody_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def full() -> None:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("the disk is full")

    with caplog.at_level(logging.INFO, LOGGER):
        async with node(tmp_path) as here:
            with monkeypatch.context() as patch:
                patch.setattr(here.store, "check", full)
                with pytest.raises(StoreUnavailable):
                    await here.rooms.check()
                assert not here.rooms.health.healthy
                await until(lambda: asked > 2)
                assert not here.rooms.health.healthy
            await until(lambda: here.rooms.health.healthy)
    assert [record.message for record in caplog.records] == ["store cannot be written to", "store available again"]


def test_a_store_is_back_when_nothing_fails_any_more(caplog: pytest.LogCaptureFixture) -> None:
    health = StoreHealth()
    with caplog.at_level(logging.INFO, LOGGER):
        health.answered(Asked.POLL)
        for _ in range(2):
            health.failed(Asked.APPEND, "away")
            health.failed(Asked.POLL, "away")
        health.answered(Asked.POLL)
        assert not health.healthy
        assert health.failing(Asked.APPEND)
        health.answered(Asked.APPEND)
        assert health.healthy
        health.answered(Asked.APPEND)
    assert [record.message for record in caplog.records] == [
        "store unavailable, edits wait",
        "store not polled",
        "store available again",
    ]
