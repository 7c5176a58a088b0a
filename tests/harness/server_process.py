"""A real server in a process of its own, which tests may kill and start again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryFile
from threading import Thread
from types import TracebackType
from typing import IO, Self

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_ERRORS_BYTES = 1 << 20
LISTENING = re.compile(r"ebbtide listening on http://(\S+):(\d+)\s*")


class ServerDidNotStart(Exception):
    """The server ended, or said nothing, before it accepted connections; the message holds its standard error."""


class ServerProcess:
    """`python -m server serve --open` on a data folder. It keeps its port from one start to the next.

    A context manager: started on the way in, killed on the way out. Its methods block for as long as they wait.
    """

    def __init__(
        self,
        data: Path,
        *extra: str,
        open_to_all: bool = True,
        environ: dict[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`extra` are further flags of `serve`; a server that is not `open_to_all` needs a source of tokens among them.

        `environ` is added to this process's environment, from which every EBBTIDE_* is taken away. `prepare` is called in the
        new process before it begins.
        """
        self.data = data
        self._arguments = [*(["--open"] if open_to_all else []), *extra]
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("EBBTIDE_")}
        # Not the flag, which would win over a store that `environ` names.
        self._environ |= {"EBBTIDE_DATA": str(data), **(environ or {})}
        self._prepare = prepare
        self._process: subprocess.Popen[str] | None = None
        # A file and not a pipe: nobody has to read it for the server to go on.
        self._errors = TemporaryFile()  # noqa: SIM115 - closed on the way out
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except ServerDidNotStart:
            self._errors.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers, in the order of their start; none where there is one process."""
        pid = self.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def errors(self) -> str:
        """What the server wrote to standard error, in all its starts."""
        # Not seek and read: the server writes at the offset that both processes share.
        return os.pread(self._errors.fileno(), MAX_ERRORS_BYTES, 0).decode(errors="replace")

    def start(self, deadline: float = 30.0) -> None:
        """Start, and return when connections are accepted. Raises `ServerDidNotStart` after `deadline` seconds."""
        if self.running:
            raise RuntimeError("the server runs already")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", str(self.port), *self._arguments],
            cwd=REPOSITORY,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            preexec_fn=self._prepare,
        )
        lines: Queue[str] = Queue()
        Thread(target=_forward, args=(self._process.stdout, lines), daemon=True).start()
        try:
            match = LISTENING.fullmatch(lines.get(timeout=deadline))
        except Empty:
            match = None
        if match is None:
            self.kill()
            raise ServerDidNotStart(self.errors or "the server said nothing")
        self.port = int(match[2])

    def signal(self, number: int) -> None:
        """Send a signal, SIGSTOP and SIGCONT among them."""
        self._running().send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone. Does nothing when it is gone already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Kill, and forget what was written to standard error. Idempotent; `start` may not follow."""
        self.kill()
        self._errors.close()

    def stop(self, deadline: float = 20.0) -> int:
        """SIGTERM, and the exit status. Kills and raises `subprocess.TimeoutExpired` after `deadline` seconds."""
        process = self._running()
        process.terminate()
        try:
            return process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process


def _forward(stream: IO[str], lines: Queue[str]) -> None:
    """Pass lines on until the stream ends, then an empty one: who waits learns that no more will come."""
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")
