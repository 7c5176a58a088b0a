"""A server process that can be killed and comes back at the same address with the same data."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
READY = "ebbtide listening on "


class Server:
    """`python -m server serve --open` with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self.url = ""

    async def start(self) -> None:
        """Return when it accepts connections. Raises `RuntimeError` when it does not come up."""
        command = ("-m", "server", "serve", "--open", "--port", str(self._port), "--data", str(self._folder / "data"))
        with (self._folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd="/tmp/standin", stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        if not line.startswith(READY):
            await self._process.wait()
            raise RuntimeError(f"the server did not start:\n{(self._folder / 'server.log').read_text()[-2000:]}")
        self.url = line.removeprefix(READY).strip()
        self._port = int(self.url.rpartition(":")[2])

    async def kill(self) -> None:
        """SIGKILL: no chance to write anything."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
