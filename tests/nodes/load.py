"""People at work on a few documents by every way in, and what has to hold when they stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ebbtide_client import Mode
from tests.harness import oracle
from tests.harness.crowd import Crowd
from tests.nodes.ledger import Ledger
from tests.nodes.replicas import OnHocuspocus, OnPythonClient, OnQueue, OnYWebSocket, Replica, marks

DOCUMENTS = ("one", "two", "three")


class Load(Crowd):
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
        super().__init__([replica.run for replica in self.replicas], self._state)

    async def goes_on(self, edits: int = 150) -> None:
        """Return when so many further edits were acknowledged. Raises what a client could not bear."""
        goal = self.ledger.total + edits
        await self.until(lambda: self.ledger.total >= goal, f"{edits} further edits")

    async def converges(self) -> float:
        """Write no more, and return when every replica has all that was ever written: the seconds that took."""
        self.write_no_more()
        return await oracle.converge(self, self.replicas, self.ledger)

    async def judge(self, store: oracle.OpenStore) -> None:
        """Look for what was lost, doubled or made up: in the log itself, and in who comes in anew."""
        ledger = self.ledger
        owed = {document: written | ledger.acknowledged[document] for document, written in ledger.written.items()}
        await oracle.audit(owed, ledger, store, marks)
        newcomers = [OnYWebSocket(self.url, document, f"new-{document}", ledger) for document in ledger.written]
        for newcomer in newcomers:
            self.join(newcomer.run)
        await oracle.converge(self, [*self.replicas, *newcomers], ledger)

    def summary(self, converged: float) -> str:
        """One line of what went on."""
        written = sum(map(len, self.ledger.written.values()))
        return (
            f"{written} edits, {self.ledger.total} seen acknowledged, {len(self.replicas)} replicas converged in "
            f"{converged:.2f} s after the last edit; clients met: {self._met()}"
        )

    def _met(self) -> str:
        return ", ".join(f"{what}: {count}" for what, count in sorted(self.ledger.met.items())) or "nothing"

    def _state(self) -> str:
        written = {document: len(marks) for document, marks in self.ledger.written.items()}
        lines = [f"  {each.name} has {len(each.contents())} of {written.get(each.document, 0)}" for each in self.replicas]
        return "\n".join([*lines, f"  clients met: {self._met()}"])
