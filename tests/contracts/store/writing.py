"""Processes that write to a store while a test looks on."""

from __future__ import annotations

import asyncio
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Writing:
    """A running `tests.contracts.writer`."""

    def __init__(self, command: list[str]) -> None:
        self._started = asyncio.create_task(asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE))

    async def finish(self) -> list[tuple[str, int, bytes]]:
        """Wait for the end of the process: all it acknowledged."""
        process = await self._started
        assert process.stdout is not None
        lines = (await process.stdout.read()).splitlines()
        assert await process.wait() == 0
        return [_acknowledgement(line) for line in lines]

    async def kill_after(self, count: int) -> list[tuple[str, int, bytes]]:
        """SIGKILL after `count` lines: all that was acknowledged before it died."""
        process = await self._started
        assert process.stdout is not None
        lines: list[bytes] = []
        while len(lines) < count:
            line = await process.stdout.readline()
            assert line, "the writer ended by itself"
            lines.append(line)
        process.kill()
        # What it printed between was acknowledged too; a line cut short was not printed in full.
        lines += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()
        return [_acknowledgement(line) for line in lines if line.endswith(b"\n")]


def _acknowledgement(line: bytes) -> tuple[str, int, bytes]:
    document, seq, update = line.rstrip(b"\n").split(b"\t")
    return document.decode(), int(seq), update
