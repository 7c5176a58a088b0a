"""A server process: started on its core, waited for, stopped or killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import machine
from bench.errors import BenchError
from bench.peers import REPOSITORY, Peer, Shared

START_SECONDS = 30.0
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


class Server:
    """A running peer. As a context manager it is stopped at the end, however the block ends."""

    def __init__(self, peer: Peer, data: Path, shared: Shared | None = None) -> None:
        """Start `peer` on `data`, or as a node on what is `shared`, and wait until it accepts connections.

        Raises BenchError when it does not.
        """
        self.peer = peer
        data.mkdir(parents=True, exist_ok=True)
        self._log = data.parent / f"{data.name}.log"
        written = self._log.stat().st_size if self._log.exists() else 0
        port = _free_port()
        command, additions = peer.command(data, port, shared)
        core, _ = machine.cores()
        self.command = " ".join(command)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=REPOSITORY,
                env=os.environ | additions,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self.port = self._wait(None if peer.kind == "ebbtide" else port, written)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: the process is gone at once. What it gave to the system is not lost, as it would be in a power cut."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to one that has not gone in time. Its figures are taken by then."""
        if not self.alive:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def output(self) -> str:
        """The end of what the server printed."""
        return self._log.read_bytes()[-400:].decode(errors="replace").strip()

    def _wait(self, port: int | None, offset: int) -> int:
        """Wait for the port to accept. Ours picks its own port and prints it, behind `offset` in the log."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.alive:
            if port is None:
                found = _LISTENING.search(self._log.read_bytes()[offset:].decode(errors="replace"))
                port = int(found[1]) if found else None
            if port is not None and _accepts(port):
                return port
            time.sleep(0.02)
        self.stop()
        raise BenchError(f"{self.peer.name} did not start: {self.command}\n{self.output()}")


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
