"""Mutated real updates: each is applied or refused by name, and a refused one leaves the document as it was.

Run in a process of its own, so that a crash of the native code is a failed test and not the end of all of them.
"""

from __future__ import annotations

import random
import subprocess
import sys

from crdt.document import Document
from crdt.errors import CrdtError
from tests.crdt.recordings import bulk, record
from tests.harness.server_process import REPOSITORY

SEEDS = 40
MUTATIONS = 120
SECONDS = 120


def mutate(update: bytes, rng: random.Random) -> bytes:
    """The update with one to three bytes changed, dropped, doubled or put in."""
    data = bytearray(update)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 6))
        else:
            data[at:at] = data[max(0, at - 8) : at]
    return bytes(data)


def check(seed: int) -> int:
    """Throw mutations of a session's updates at its document; how many were refused."""
    rng = random.Random(seed)
    log = bulk(seed) if seed % 2 else record(seed)
    document = Document()
    document.apply_all(log[: len(log) * 2 // 3])
    refused = 0
    for _ in range(MUTATIONS):
        before, clocks = document.encode(), document.state_vector()
        try:
            document.apply(mutate(rng.choice(log), rng))
        except CrdtError:
            refused += 1
            after = document.encode()
            assert sorted(after) == sorted(before), f"a refused update left a trace in seed {seed}"
            assert Document.load([before]).apply(after).name == "DUPLICATE"
            assert sorted(document.state_vector()) == sorted(clocks)
        Document.load([document.encode()])
    return refused


def test_mutated_updates_are_applied_or_refused_and_leave_no_trace() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.test_crdt_mutations"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, f"{run.returncode}: {run.stderr[-2000:]}"
    assert int(run.stdout) > SEEDS * MUTATIONS // 4


if __name__ == "__main__":
    print(sum(check(seed) for seed in range(SEEDS)))
