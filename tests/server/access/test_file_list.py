from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server.access import file_list as module
from server.access.errors import RevocationNotSpread
from server.access.file_list import FileList, open_file_list
from server.access.revocations import Kind, Revocation, Revocations
from server.stores.errors import StoreUnusable

PATIENCE = 20.0
HOURS = 24

Open = Callable[[], Awaitable[tuple[FileList, Revocations]]]


@pytest.fixture
async def open_(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the list as a process of its own would."""
    opened: list[FileList] = []

    async def open_() -> tuple[FileList, Revocations]:
        revocations = Revocations(HOURS, time.time, lambda call: None)
        opened.append(await open_file_list(tmp_path / "list", revocations))
        return opened[-1], revocations

    yield open_
    for each in opened:
        await each.close()
        await each.close()


def ada(at: float) -> Revocation:
    return Revocation(Kind.SUBJECT, "ada", at)


async def learns(revocations: Revocations, revocation: Revocation) -> None:
    async with asyncio.timeout(PATIENCE):
        while revocation not in set(revocations):
            await asyncio.sleep(0.02)


async def test_what_one_writes_the_others_learn_and_a_later_one_finds(open_: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    now = time.time()
    (one, _), (_, others) = await open_(), await open_()
    await one.spread(ada(now - 10))
    await learns(others, ada(now - 10))
    await one.spread(ada(now))
    await one.spread(ada(now))
    await learns(others, ada(now))
    await one.spread(ada(now - 20))
    _, later = await open_()
    assert set(later) == {ada(now)}, "the later time holds, though an earlier was written last"
    for number in range(7):
        await one.spread(Revocation(Kind.TOKEN, f"{number}", now))
    _, later = await open_()
    assert len(later) == 8


async def test_what_has_expired_is_deleted(open_: Open, tmp_path: Path) -> None:
    now = time.time()
    one, _ = await open_()
    await one.spread(ada(now - HOURS * 3600 - 1))
    await one.spread(Revocation(Kind.TOKEN, "7", now))
    with closing(sqlite3.connect(tmp_path / "list")) as connection:
        assert connection.execute("SELECT key FROM revocations").fetchall() == [("t7",)]


async def test_a_folder_that_cannot_be_written_is_said_and_comes_back(open_: Open, tmp_path: Path) -> None:
    now = time.time()
    one, _ = await open_()
    with closing(sqlite3.connect(tmp_path / "list", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RevocationNotSpread):
            await one.spread(ada(now))
        async with asyncio.timeout(PATIENCE):
            while one.healthy:
                await asyncio.sleep(0.02)
        connection.execute("ROLLBACK")
    await one.spread(ada(now))
    async with asyncio.timeout(PATIENCE):
        while not one.healthy:
            await asyncio.sleep(0.02)


async def test_what_another_hand_writes_is_passed_over(open_: Open, tmp_path: Path) -> None:
    now = time.time()
    await open_()
    with closing(sqlite3.connect(tmp_path / "list", isolation_level=None)) as connection:
        for key, at in (("", now), ("x7", now), (b"s\xff", now), ("sada", "soon"), ("sada", 1e300), ("sbob", now)):
            connection.execute("INSERT OR REPLACE INTO revocations (key, at) VALUES (?, ?)", (key, at))
    _, later = await open_()
    assert set(later) == {Revocation(Kind.SUBJECT, "bob", now)}


async def test_what_is_no_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnusable, match="remove it to start with none"):
        await open_file_list(tmp_path / "list", Revocations(HOURS, time.time, lambda call: None))
    with pytest.raises(StoreUnusable, match="unable to open"):
        await open_file_list(tmp_path / "nowhere" / "list", Revocations(HOURS, time.time, lambda call: None))


async def test_a_mistake_of_ours_is_said_and_does_not_end_reading(
    open_: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (one, _), (two, others) = await open_(), await open_()
    rows = two._rows

    def fails() -> Any:
        monkeypatch.setattr(two, "_rows", rows)
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(two, "_rows", fails)
    now = time.time()
    await one.spread(ada(now))
    await learns(others, ada(now))
    assert two.healthy
    assert "a mistake of ours" in caplog.text
