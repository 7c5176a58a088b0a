"""The parent of workers, with small workers that end in every way there is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PARENT = """
import logging, os, signal, sys, time
from pathlib import Path
from server.workers import supervisor
from server.workers.supervisor import Supervisor

logging.basicConfig(level="INFO", format="%(message)s")
folder = Path(sys.argv[1])
supervisor.RETRY_FIRST = 0.01

def until_told(worker):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    worker.serves()
    signal.sigwait([signal.SIGTERM])
    return 0

def until_orphaned(worker):
    worker.serves()
    worker.parent.recv(1)
    (folder / f"orphan-{worker.number}").touch()
    return 0

def stubborn(worker):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker.serves()
    while True:
        time.sleep(60)

def never_serving(worker):
    return until_told(worker) if worker.number == 0 else time.sleep(60)

def ending_the_whole(worker):
    os.kill(os.getppid(), signal.SIGTERM)
    return until_told(worker)

def misconfigured(worker):
    return 2 if worker.number else until_told(worker)

def misconfigured_later(worker):
    return 2 if worker.again else until_told(worker)

def failing(worker):
    raise RuntimeError("a worker's own error")

def dying(worker):
    # Three successors die at once, the next one stays.
    with (folder / "starts").open("a") as starts:
        starts.write(f"{worker.number}\\n")
    if worker.again and (folder / "starts").read_text().count("1\\n") < 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return until_told(worker)

def served():
    print("served", flush=True)

sys.exit(Supervisor(int(sys.argv[4]), folder, globals()[sys.argv[2]], served, float(sys.argv[3])).run())
"""


class Parent:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def serves(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "served\n"

    @property
    def workers(self) -> list[int]:
        return [int(each) for each in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def ends(self, number: int | None = None) -> tuple[int, str]:
        """The exit status, after a signal when one is given, and what it logged."""
        if number is not None:
            self._process.send_signal(number)
        _, errors = self._process.communicate(timeout=30)
        return self._process.returncode, errors


@contextmanager
def parent(folder: Path, work: str, patience: float = 30.0, workers: int = 2) -> Iterator[Parent]:
    command = [sys.executable, "-c", PARENT, str(folder), work, str(patience), str(workers)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Parent(process)
        finally:
            process.kill()


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.01)


def until(path: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_text() != text:
        assert time.monotonic() < deadline, path.read_text() if path.exists() else "not there"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_order(tmp_path: Path, number: int) -> None:
    with parent(tmp_path, "until_told") as process:
        process.serves()
        workers = process.workers
        assert len(workers) == 2
        assert process.ends(number) == (0, "ending the workers\n")
        until_gone(workers)


def test_a_signal_before_all_serve_ends_all_in_order(tmp_path: Path) -> None:
    with parent(tmp_path, "never_serving") as process:
        while len(process.workers) < 2:
            time.sleep(0.01)
        workers = process.workers
        assert process.ends(signal.SIGTERM)[0] == 0
        until_gone(workers)


def test_a_signal_that_comes_with_the_word_of_the_first_worker_ends_all_in_order(tmp_path: Path) -> None:
    with parent(tmp_path, "ending_the_whole", patience=10.0) as process:
        assert process.ends() == (0, "ending the workers\n")


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with parent(tmp_path, "until_orphaned") as process:
        process.serves()
        workers = process.workers
        os.kill(process.pid, signal.SIGKILL)
        until_gone(workers)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orphan-0", "orphan-1"]


def test_a_worker_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with parent(tmp_path, "stubborn", patience=0.2) as process:
        process.serves()
        workers = process.workers
        status, log = process.ends(signal.SIGTERM)
        assert status == 1
        assert log.count("worker does not end, it is killed") == 2
        until_gone(workers)


def test_a_worker_that_dies_is_replaced_and_its_successors_too(tmp_path: Path) -> None:
    with parent(tmp_path, "dying") as process:
        process.serves()
        first, second = process.workers
        os.kill(second, signal.SIGKILL)
        until(tmp_path / "starts", "0\n" + "1\n" * 5)
        assert process.workers[0] == first
        status, log = process.ends(signal.SIGTERM)
        assert status == 0
        assert log.count("worker died, another follows") == 4


@pytest.mark.parametrize("workers", [2, 5])
def test_what_the_user_has_to_mend_ends_all(tmp_path: Path, workers: int) -> None:
    with parent(tmp_path, "misconfigured", workers=workers) as process:
        assert process.ends() == (2, "ending the workers\n")


def test_so_it_does_when_a_successor_finds_it(tmp_path: Path) -> None:
    with parent(tmp_path, "misconfigured_later") as process:
        process.serves()
        os.kill(process.workers[0], signal.SIGKILL)
        assert process.ends() == (2, "worker died, another follows\nending the workers\n")


def test_an_error_of_the_first_worker_ends_the_start(tmp_path: Path) -> None:
    with parent(tmp_path, "failing") as process:
        status, log = process.ends()
    assert status == 1
    assert "RuntimeError: a worker's own error" in log
    assert log.endswith("worker ended before all served\nending the workers\n")
