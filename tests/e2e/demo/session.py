"""What two people typed at the same time: read from a recorded trace, or made up from a seed.

A trace is the JSON of https://github.com/josephg/editing-traces (kind "concurrent"), gzipped or not: transactions with
causal `parents`, whose positions are Unicode characters in the merge of the parents.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pycrdt import Doc, Text, TransactionEvent

CLIENT_IDS = (1, 2)
"""Yjs breaks ties by client id; traces end with their `endContent` where the first author has the smaller one."""


class Patch(NamedTuple):
    position: int
    deleted: int
    inserted: str


class Step(NamedTuple):
    """One transaction of an author who had seen exactly `seen` transactions of the other one."""

    seen: int
    patches: Sequence[Patch]


@dataclass(frozen=True)
class Session:
    """The steps of both authors, in order, and the text that every correct merge ends with."""

    authors: tuple[Sequence[Step], Sequence[Step]]
    end: str

    @property
    def is_ascii(self) -> bool:
        return all(patch.inserted.isascii() for steps in self.authors for step in steps for patch in step.patches)


def apply(text: Text, patches: Sequence[Patch], *, is_ascii: bool = False) -> None:
    """Apply patches one after the other, each to what the one before left. `is_ascii` promises that all of it is."""
    for position, deleted, inserted in patches:
        start, end = position, position + deleted
        if not is_ascii:
            # Yjs in Rust counts UTF-8 bytes, a trace counts characters.
            content = str(text)
            start, end = (len(content[:index].encode()) for index in (start, end))
        if deleted:
            del text[start:end]
        if inserted:
            text.insert(start, inserted)


def load(path: Path, limit: int | None = None) -> Session:
    """A recorded session, or its first `limit` transactions.

    Raises `OSError` when the file cannot be read, `ValueError` when it is not a trace of two authors.
    """
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        trace = json.loads(content)
        if trace["kind"] != "concurrent" or trace["numAgents"] != 2:
            raise ValueError("not a concurrent trace of two authors")
        return _read(trace["txns"], None if limit is not None else trace["endContent"], limit)
    except (EOFError, IndexError, KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"not a trace: {error!r}") from error


def _read(transactions: Sequence[Mapping[str, Any]], end: str | None, limit: int | None) -> Session:
    steps: tuple[list[Step], list[Step]] = ([], [])
    direct = DirectReplay()
    clocks: list[list[int]] = []
    for transaction in transactions[:limit]:
        agent = transaction["agent"]
        clock = [max((clocks[parent][of] for parent in transaction["parents"]), default=0) for of in (0, 1)]
        if clock[agent] != len(steps[agent]):
            raise ValueError("an author's transactions are not in sequence")
        step = Step(clock[1 - agent], [Patch(*patch) for patch in transaction["patches"]])
        steps[agent].append(step)
        clock[agent] += 1
        clocks.append(clock)
        if end is None:
            direct.play(agent, step)
    return Session(steps, direct.end() if end is None else end)


def make_up(seed: int, transactions: int) -> Session:
    """A session of people who type and delete words here and there, each seeing the other with some delay."""
    random_ = random.Random(seed)
    words = ("tide ", "ebb ", "häfen ", "port ", "波 ", "boat 🛶 ", "line\n")
    steps: tuple[list[Step], list[Step]] = ([], [])
    direct = DirectReplay()
    seen, cursor = [0, 0], [0, 0]
    while len(steps[0]) + len(steps[1]) < transactions:
        agent = random_.randrange(2)
        if random_.random() < 0.3:
            seen[agent] = random_.randint(seen[agent], len(steps[1 - agent]))
        direct.see(agent, seen[agent])
        for character in random_.choice(words) * random_.randint(1, 3):
            length = direct.length(agent)
            if random_.random() < 0.05 or cursor[agent] > length:
                cursor[agent] = random_.randint(0, length)
            if cursor[agent] and random_.random() < 0.15:
                cursor[agent] -= 1
                patch = Patch(cursor[agent], 1, "")
            else:
                patch = Patch(cursor[agent], 0, character)
                cursor[agent] += 1
            step = Step(seen[agent], [patch])
            direct.play(agent, step)
            steps[agent].append(step)
    return Session(steps, direct.end())


class DirectReplay:
    """The oracle: both authors' documents in one place, handing each other their updates."""

    def __init__(self) -> None:
        self._texts = [Doc({"text": Text()}, client_id=id_).get("text", type=Text) for id_ in CLIENT_IDS]
        self._updates: tuple[list[bytes], list[bytes]] = ([], [])
        self._seen = [0, 0]

    def length(self, agent: int) -> int:
        return len(str(self._texts[agent]))

    def see(self, agent: int, count: int) -> None:
        """Let the author see the first `count` transactions of the other."""
        for update in self._updates[1 - agent][self._seen[agent] : count]:
            self._texts[agent].doc.apply_update(update)
        self._seen[agent] = count

    def play(self, agent: int, step: Step) -> None:
        self.see(agent, step.seen)
        text = self._texts[agent]
        made: list[bytes] = []

        def keep(event: TransactionEvent) -> None:
            made.append(event.update)

        subscription = text.doc.observe(keep)
        with text.doc.transaction():
            apply(text, step.patches)
        text.doc.unobserve(subscription)
        self._updates[agent].append(made[0] if made else b"\x00\x00")

    def end(self) -> str:
        for agent in (0, 1):
            self.see(agent, len(self._updates[1 - agent]))
        first, second = map(str, self._texts)
        if first != second:
            raise RuntimeError("two documents with the same updates differ")
        return first
