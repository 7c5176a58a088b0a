"""What a node holds of the deltas that answer pulls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sync.rooms.errors import AnswerFull, Overloaded

ANSWER_BYTES = 16 << 20
"""Once the deltas of an answer are larger than this, no further ones are added."""

LARGE = 1 << 20
"""Bytes from which a document counts as large: those get half of the room, lest few of them keep everybody else waiting."""


class Answers:
    """The deltas on their way to clients that have not taken all of their answers yet, each counted once.

    Who pulls a document of 64 MiB and does not read keeps that much in memory, so only so many bytes are on their way at
    a time. Answers about one document to clients at the same place hold the same delta.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # By identity, with how many answers hold each: comparing many MiB would cost more than they do.
        self._deltas: dict[int, tuple[bytes, int]] = {}
        self.held = 0
        """The bytes of all of them."""

    @contextmanager
    def begin(self) -> Iterator[Answer]:
        """An answer to one request. The block ends when the client has it, or never gets it."""
        answer = Answer(self)
        try:
            yield answer
        finally:
            answer.end()

    def admits(self, size: int) -> bool:
        """Whether a delta of a document of `size` bytes may be made. The last one may exceed the bound."""
        return self.held <= (self._most if size < LARGE else self._most // 2)

    def hold(self, delta: bytes) -> None:
        """Count a delta, once for each answer that holds it."""
        _, answers = self._deltas.get(id(delta), (delta, 0))
        if not answers:
            self.held += len(delta)
        self._deltas[id(delta)] = delta, answers + 1

    def release(self, delta: bytes) -> None:
        """One of the answers that hold the delta does so no more."""
        _, answers = self._deltas.pop(id(delta))
        if answers > 1:
            self._deltas[id(delta)] = delta, answers - 1
        else:
            self.held -= len(delta)


class Answer:
    """The deltas of one answer."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._deltas: list[bytes] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it is as large as one answer may be."""
        return self._size > ANSWER_BYTES

    def admit(self, size: int) -> None:
        """Ask for room for a delta of a document of `size` bytes.

        Raises `AnswerFull`, or `Overloaded` where the node has no room and the answer holds nothing yet.
        """
        if self.full:
            raise AnswerFull("the answer is full; ask for this in another")
        if not self._answers.admits(size):
            kind = AnswerFull if self._deltas else Overloaded
            raise kind("too many answers are on their way from this node; ask for this again in a moment")

    def hold(self, delta: bytes) -> None:
        """Count a delta as part of the answer."""
        self._answers.hold(delta)
        self._deltas.append(delta)
        self._size += len(delta)

    def end(self) -> None:
        """Let go of all. Nothing is held afterwards."""
        while self._deltas:
            self._answers.release(self._deltas.pop())
