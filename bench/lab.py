"""What a scenario works with: servers on fresh data, the load generator, and proof of what a server ended with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import loadgen, material
from bench.errors import BenchError
from bench.peers import Peer, Shared
from bench.process import Server

# Above this share of its core the load generator, not the server, may have set a figure.
LOADGEN_LIMIT = 0.85
# Above this many cores used by other programs a figure says more about them.
FOREIGN_LIMIT = 0.1


@dataclass(frozen=True)
class Metric:
    """One figure of a scenario. `better`: "higher", "lower", or "" for a figure that is no contest."""

    key: str
    title: str
    better: str
    digits: int = 0


@dataclass
class Run:
    """One run of a scenario against one peer."""

    figures: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loadgen_cpu: float = 0.0
    foreign_cpu: float = 0.0  # cores that other programs used meanwhile
    commands: set[str] = field(default_factory=set)
    raw: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, answer: loadgen.Answer, judge: bool = True) -> loadgen.Answer:
        """Record an answer of the load generator; `judge`: its CPU says whether it was the limit."""
        self.raw.append(answer)
        if judge:
            self.loadgen_cpu = max(self.loadgen_cpu, answer["loadgen_cpu"])
        return answer

    def note(self, text: str) -> None:
        """Say something about this run, once."""
        if text not in self.notes:
            self.notes.append(text)


class Lab:
    """One scenario, one peer, one run. `quick` shortens; `work` is an empty folder of this run's own."""

    def __init__(self, work: Path, quick: bool) -> None:
        self.quick = quick
        self._work = work
        self._numbers = itertools.count(1)
        self.run = Run()

    def fresh(self) -> Path:
        """A folder that nobody has used."""
        return self._work / f"data-{next(self._numbers)}"

    def name(self) -> str:
        """A document name that nobody has used."""
        return f"bench{next(self._numbers)}"

    def start(self, peer: Peer, data: Path | None = None, shared: Shared | None = None) -> Server:
        """Start a server, on fresh data unless told; `warm` it before anything is measured."""
        server = Server(peer, data or self.fresh(), shared)
        self.run.commands.add(server.command)
        return server

    def warm(self, server: Server) -> None:
        """The same warm-up for all: ten readers, 500 edits a second, for a second."""
        loadgen.run(server, "edit", name=self.name(), readers=10, rate=500, warm=0, seconds=1, drain=1)

    def load(self, server: Server, mode: str, **settings: object) -> loadgen.Answer:
        """Run the load generator and keep what it answers."""
        return self.run.keep(loadgen.run(server, mode, **settings))

    def text(self, server: Server, name: str, ids: int = 1, **settings: object) -> str:
        """What a new client reads from the server, through pycrdt; `ids` is the number of clients that wrote.

        The caller keeps somebody connected: servers without a store forget a document that nobody has open.
        """
        dump = self._work / "fetched.bin"
        answer = loadgen.run(server, "sync", name=name, ids=ids, dump=dump, timeout=20, **settings)
        if answer["finished"] != 1:
            raise BenchError(f"{server.peer.name} did not answer a join within 20 s")
        return material.read_text(material.read_updates(dump))

    def prove(self, server: Server, name: str, length: int, ids: int = 1, **settings: object) -> None:
        """Note it when the server's document does not hold `length` characters."""
        found = len(self.text(server, name, ids, **settings))
        if found != length:
            self.run.note(f"the server holds {found:,} of {length:,} characters")
