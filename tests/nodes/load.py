"""People at work on a few documents by every way in, and what has to hold when they stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pycrdt

from ebbtide_client import Mode
from sync.rooms.ports import Store
from tests.nodes.ledger import Ledger
from tests.nodes.replicas import OnHocuspocus, OnPythonClient, OnQueue, OnYWebSocket, Replica, marks

DOCUMENTS = ("one", "two", "three")
PATIENCE = 30.0
PAGE = 500


class Load:
    """Two replicas on /ws, one on /collab, one on /api/v1/sync and two of the Python client for each document."""

    def __init__(self, url: str, folder: Path, documents: Sequence[str] = DOCUMENTS) -> None:
        self.url = url
        self.ledger = Ledger()
        self.replicas: list[Replica] = []
        for name in documents:
            self.replicas += [OnYWebSocket(url, name, f"{name}-ws-{number}", self.ledger) for number in range(2)]
            self.replicas.append(OnHocuspocus(url, name, f"{name}-collab", self.ledger))
            self.replicas.append(OnQueue(url, name, f"{name}-queue", self.ledger))
            for mode in (Mode.LIVE, Mode.PUSH):
                self.replicas.append(OnPythonClient(url, name, f"{name}-py-{mode.value}", self.ledger, mode, folder))
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(replica.run(self._stop)) for replica in self.replicas]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(end, Exception):
                raise end

    async def goes_on(self, edits: int = 150) -> None:
        """Return when so many further edits were acknowledged. Raises what a client could not bear."""
        more = asyncio.create_task(self.ledger.more(edits))
        async with asyncio.timeout(PATIENCE):
            done, _ = await asyncio.wait([more, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def converges(self) -> float:
        """Write no more, and return when every replica has all that was ever written: the seconds that took."""
        self._stop.set()
        return await self._agree(self.replicas)

    async def _agree(self, replicas: Sequence[Replica]) -> float:
        begun = time.monotonic()
        while waiting := [each.name for each in replicas if each.marks() != sorted(self.ledger.written[each.document])]:
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < begun + PATIENCE, f"these do not have each mark once: {waiting}; met {self.ledger.met}"
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    async def judge(self, store: Callable[[], Awaitable[Store]]) -> None:
        """Look for what was lost, doubled or made up: in the log itself, and in who comes in anew."""
        opened = await store()
        try:
            for document, written in self.ledger.written.items():
                logged = await _logged(opened, document)
                lost = self.ledger.acknowledged[document] - set(logged)
                assert not lost, f"acknowledged and not in the log: {sorted(lost)[:5]}"
                assert logged == sorted(written)
        finally:
            await opened.close()
        newcomers = [OnYWebSocket(self.url, document, f"new-{document}", self.ledger) for document in self.ledger.written]
        self._tasks += [asyncio.create_task(each.run(self._stop)) for each in newcomers]
        await self._agree(newcomers)

    def summary(self, converged: float) -> str:
        """One line of what went on."""
        met = ", ".join(f"{what}: {count}" for what, count in sorted(self.ledger.met.items()))
        written = sum(map(len, self.ledger.written.values()))
        return (
            f"{written} edits, {self.ledger.total} seen acknowledged, {len(self.replicas)} replicas converged in "
            f"{converged:.2f} s after the last edit; clients met: {met or 'nothing'}"
        )


async def _logged(store: Store, document: str) -> list[str]:
    """The marks that the log gives, entry by entry."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    seq = 0
    while page := await store.read(document, seq, PAGE):
        for entry in page:
            seq += 1
            assert entry.seq == seq, f"the log of {document} has a hole before {entry.seq}"
            doc.apply_update(entry.update)
    return marks(doc)
