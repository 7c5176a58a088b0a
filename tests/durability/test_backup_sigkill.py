"""A backup and a restore that are killed at any moment go on from there, and what they left is never wrong."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

from server.archive.archive import Archive
from server.archive.errors import ArchiveUnusable
from tests.harness.server_process import REPOSITORY
from tests.server.archive.kit import adopt_aged, append, contents, contents_of, sqlite, state_at, texts
from tests.server.commands.kit import Ended, command, ebbtide

PATIENCE = 120.0
MIB = 1 << 20
KILLED_AT = [1, 3 * MIB, 9 * MIB, 10 * MIB, 17 * MIB, 26 * MIB]
"""Bytes on disk at which a run is killed."""


def size_of(folder: Path) -> int:
    """Bytes in the files of a folder, which may come and go."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def heed_interrupts() -> None:
    """Where the tests run in the background, SIGINT is ignored, and whatever they start would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop_when(folder: Path, size: int, number: signal.Signals, *arguments: str) -> Ended:
    """Run a command and send it a signal when the folder has that size, or when it ends before."""
    with subprocess.Popen(
        command(*arguments), cwd=REPOSITORY, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while size_of(folder) < size and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        return Ended(process.returncode, out, err)


async def fill(path: Path) -> None:
    """60 documents of 800 KB, one of them larger than a page and with a log that was compacted."""
    updates = texts(20, 40_000)
    async with sqlite(path) as store:
        for number in range(60):
            await adopt_aged(store, f"d{number}", updates, [1_700_000_000_000 + number] * 20)
        for number in range(0, 60, 10):
            await store.snapshot(f"d{number}", 15, state_at(updates, 15))
            await store.compact(f"d{number}", 10)
        more = texts(100, 40_000, seed=1)
        await append(store, "large", 0, more)


def kills(folder: Path, *arguments: str) -> Iterator[bool]:
    """Kill run after run, each further on; True where one was killed."""
    for size in KILLED_AT:
        yield stop_when(folder, size, signal.SIGKILL, *arguments).status == -signal.SIGKILL


async def test_ctrl_c_is_no_traceback(tmp_path: Path) -> None:
    await fill(tmp_path / "data" / "ebbtide.sqlite")
    for attempt in range(10):
        run = ("backup", str(tmp_path / f"backup{attempt}"), "--data", str(tmp_path / "data"))
        ended = stop_when(tmp_path / f"backup{attempt}", MIB, signal.SIGINT, *run)
        if ended.status:
            break
        # It had ended before the signal came.
    assert (ended.status, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == "ebbtide: interrupted; run the same again to go on"
    assert "Traceback" not in ended.err
    assert ebbtide(*run).fine


async def test_killed_backups_and_restores(tmp_path: Path) -> None:
    await fill(tmp_path / "data" / "ebbtide.sqlite")
    folder, target = tmp_path / "backup", tmp_path / "target"
    run = ("backup", str(folder), "--data", str(tmp_path / "data"))
    killed, counts = 0, [(0, 0)]
    for was_killed in kills(folder, *run):
        killed += was_killed
        try:
            with Archive(folder, write=False) as archive:
                archive.check()
                counts.append(archive.count())
        except ArchiveUnusable:
            # Nothing was committed yet.
            counts.append((0, 0))
    assert killed >= 4
    assert counts == sorted(counts), "a killed run lost what an earlier one had written"
    assert counts[-1] > (0, 0)
    ended = ebbtide(*run)
    assert ended.fine, ended
    assert "61 documents" in ended.out
    async with sqlite(tmp_path / "data" / "ebbtide.sqlite") as store:
        expected = await contents(store)
    killed = 0
    again = ("restore", str(folder), "--data", str(target))
    for was_killed in kills(target, *again):
        killed += was_killed
        if (target / "ebbtide.sqlite").exists():
            async with sqlite(target / "ebbtide.sqlite") as store:
                cursor, more = 0, True
                while more:
                    page = await store.changes(cursor, 1000)
                    for name, head in page.changes:
                        entries = await store.read(name, 0, 1000)
                        assert tuple(entries) == expected[name][4][: len(entries)]
                        assert head == (entries[-1].seq if entries else 10)
                    cursor, more = page.cursor, page.more
    assert killed >= 4
    ended = ebbtide(*again)
    assert ended.fine, ended
    after = await contents_of(target / "ebbtide.sqlite")
    assert {name: (log[:2], log[4]) for name, log in after.items()} == {
        name: (log[:2], log[4]) for name, log in expected.items()
    }
    assert ebbtide("verify", "--data", str(target)).status == 0
