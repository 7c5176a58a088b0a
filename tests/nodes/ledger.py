"""What was written, what of it was acknowledged, and what clients met on the way."""

from __future__ import annotations

from collections import Counter


class Ledger:
    """Marks `name:number`, by document. Each is written once, so that it can be looked for, and looked for twice."""

    def __init__(self) -> None:
        self.written: dict[str, set[str]] = {}
        self.acknowledged: dict[str, set[str]] = {}
        self.total = 0
        self.met: Counter[str] = Counter()
        """What clients met beside answers: ends of connections, refused handshakes, pushes that were sent again."""

    def write(self, document: str, mark: str) -> None:
        marks = self.written.setdefault(document, set())
        assert mark not in marks
        marks.add(mark)

    def acknowledge(self, document: str, mark: str) -> None:
        self.acknowledged.setdefault(document, set()).add(mark)
        self.total += 1
