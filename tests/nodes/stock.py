"""Two stock JavaScript clients at work in a process of their own: tests/conformance/support/at-work.mjs."""

from __future__ import annotations

import asyncio
import json
import shutil
from types import TracebackType
from typing import Any, Self

from tests.harness.server_process import REPOSITORY

SUITE = REPOSITORY / "tests" / "conformance"
PATIENCE = 40.0


class StockClients:
    """y-websocket and a Hocuspocus provider on `document`. An async context manager: they work inside, once they are synced."""

    def __init__(self, url: str, document: str) -> None:
        self._arguments = ("support/at-work.mjs", url, document)

    async def __aenter__(self) -> Self:
        node = shutil.which("node")
        assert node, "node is not installed: the stock clients need Node 20 or newer"
        assert (SUITE / "node_modules").is_dir(), "run `npm ci` in tests/conformance, as `make test` does"
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(node, *self._arguments, cwd=SUITE, stdin=pipe, stdout=pipe)
        assert await self._answer() == {"ready": True}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> set[str]:
        """They write no more: the marks that they wrote."""
        await self._tell({"stop": True})
        return set((await self._answer())["written"])

    async def expect(self, count: int) -> dict[str, Any]:
        """What they have and met, once each has so many marks and all that they wrote is acknowledged."""
        await self._tell({"expect": count})
        return await self._answer()

    async def _tell(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the clients ended; what they said is above"
        answer: dict[str, Any] = json.loads(line)
        return answer
