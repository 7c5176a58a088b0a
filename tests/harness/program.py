"""A program of others that tests and benchmarks run: a process on a port of its own, which may be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.server_process import REPOSITORY

START_SECONDS = 60.0
PARTS = REPOSITORY / ".stamps" / "parts"
"""Where `make test` installs programs that only tests need."""


class PartMissing(Exception):
    """A program that the tests run against is not on this machine. `str()` says how to get it."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program(ABC):
    """Not started until `start`. A context manager: started on the way in, killed on the way out.

    It keeps its port from one start to the next. Its methods block for as long as they wait.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is for what it writes, its log among that."""
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @property
    def pid(self) -> int | None:
        """Of its process; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.pid is not None

    @property
    def logs(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it on what its folder holds, and wait until it takes connections. Raises as `wait_until_it_answers` does."""
        self.launch()
        self.wait_until_it_answers()

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, process_group=0)

    def wait_until_it_answers(self) -> None:
        """Return when it takes connections. Raises `TimeoutError` with the end of its log."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.running:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"{Path(self.command()[0]).name} did not start:\n{self.logs[-2000:]}")

    def signal(self, number: int) -> None:
        """Send a signal, SIGSTOP and SIGCONT among them."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, for its children too, and wait until it is gone. Does nothing when it is gone already."""
        if self._process is not None:
            if self.running:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def _log(self) -> Path:
        return self.folder / "log"
