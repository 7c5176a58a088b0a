"""How much memory the commands take does not depend on how much there is to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pycrdt

from crdt.document import Document
from sync.rooms.ports import Adoption, Entry
from tests.harness.mongod import ReplicaSet
from tests.harness.observed import Observe
from tests.harness.server_process import REPOSITORY
from tests.server.archive.kit import sqlite, texts

SLACK_KIB = 24 << 10
SMALL, LARGE = 1, 6

LONG_BYTES = 40_000
"""Of an entry of the long log."""

MONGO_BATCH_ENTRIES = (16 << 20) // LONG_BYTES
"""How many of them MongoDB gives at a time: with fewer, a longer log takes more memory."""


PROBE = r"""
import atexit, re, sys
from pathlib import Path
from server.__main__ import main
atexit.register(lambda: print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr))
main()
"""
"""Runs a command, and ends with the most memory that it had, in KiB."""


def peak_of(*arguments: str) -> int:
    """Run a command to its end, which is a good one; the most memory that it had at a time, in KiB."""
    command = [sys.executable, "-c", PROBE, *arguments]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended
    return int(ended.stderr.split()[-1])


def rewritten(count: int, size: int) -> list[bytes]:
    """Updates that put a text in the place of the last one: a long log of a small document."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    entries = doc.get("entries", type=pycrdt.Map)
    updates = []
    for number in range(count):
        before = doc.get_state()
        entries["text"] = f"{number} " + "tide " * (size // 5)
        updates.append(doc.get_update(before))
    return updates


async def fill(path: Path, times: int, entries: int = 0) -> None:
    """`times` as many documents, small and large, and a log of so many entries (0: one that is `times` as long)."""
    large, long = texts(40, 20_000), rewritten(entries or 100 * times, LONG_BYTES)
    async with sqlite(path) as store:
        for number in range(10 * times):
            every = [Entry(seq, update, "", "", seq) for seq, update in enumerate(large, 1)]
            await store.adopt([Adoption(f"large {number}", 0, every, "L")])
        for first in range(0, 300 * times, 300):
            one = [Entry(1, b"\x00\x00", "", "", 1)]
            await store.adopt([Adoption(f"small {number}", 0, one, "L") for number in range(first, first + 300)])
        for start in range(0, len(long), 50):
            some = [Entry(seq, update, "", "", seq) for seq, update in enumerate(long[start : start + 50], start + 1)]
            await store.adopt([Adoption("long", start, some, "L")])
        document = Document()
        for update in long[:-5]:
            # One by one: only between transactions does yrs let go of what was overwritten.
            document.apply(update)
        state = document.encode()
        assert len(state) < 1 << 20
        await store.snapshot("long", len(long) - 5, state)


class Peaks:
    """The most memory of each command, first with few data and then with many."""

    def __init__(self) -> None:
        self._found: dict[str, list[int]] = {}

    def run(self, *command: str) -> None:
        name = " ".join([command[0], *(each for each in command if each.startswith("--"))])
        self._found.setdefault(name, []).append(peak_of(*command))

    def demand_equal(self, observe: Observe) -> None:
        for command, (small, large) in self._found.items():
            observe(
                f"{command}: {small >> 10} MiB of memory with few data, {large >> 10} MiB with {LARGE // SMALL} times as many"
            )
        assert all(large - small < SLACK_KIB for small, large in self._found.values()), self._found


async def test_memory_does_not_grow_with_the_data(tmp_path: Path, observe: Observe) -> None:
    peaks = Peaks()
    for times in (SMALL, LARGE):
        place = tmp_path / str(times)
        await fill(place / "data" / "ebbtide.sqlite", times)
        source = ("--data", str(place / "data"))
        peaks.run("backup", str(place / "backup"), *source)
        peaks.run("restore", str(place / "backup"), "--data", str(place / "restored"))
        peaks.run("restore", str(place / "backup"), "--data", str(place / "restored"), "--at", "2100-01-01")
        peaks.run("copy", f"sqlite:{place / 'data'}", f"sqlite:{place / 'copied'}")
        peaks.run("verify", *source)
        peaks.run("verify", str(place / "backup"))
    peaks.demand_equal(observe)


async def test_memory_does_not_grow_with_the_data_of_a_mongodb(
    replica_set: ReplicaSet, tmp_path: Path, observe: Observe
) -> None:
    peaks = Peaks()
    for times in (SMALL, LARGE):
        place, url = tmp_path / str(times), replica_set.url(f"memory_{times}")
        await fill(place / "data" / "ebbtide.sqlite", times, MONGO_BATCH_ENTRIES + 100 * times)
        peaks.run("copy", f"sqlite:{place / 'data'}", url)
        peaks.run("verify", "--store", url)
        peaks.run("backup", str(place / "backup"), "--store", url)
        peaks.run("restore", str(place / "backup"), "--store", replica_set.url(f"memory_restored_{times}"))
    peaks.demand_equal(observe)
