"""Real updates to test with: sessions of several clients that edit every kind of shared type and meet now and then."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

WORDS = ["a", "tide", " ", "ebb and flow ", "é", "潮", "😀", "👩‍👩‍👧", "\n", "0123456789" * 20]


class Author:
    """One client: a document and the updates that it has made, oldest first."""

    def __init__(self, client_id: int) -> None:
        self.doc: Doc[Any] = Doc(client_id=client_id)
        self.updates: list[bytes] = []
        self._quiet = False
        self.text = self.doc.get("text", type=Text)
        self.map = self.doc.get("map", type=Map)
        self.array = self.doc.get("array", type=Array)
        self.xml = self.doc.get("xml", type=XmlFragment)
        self.doc.observe(lambda event: None if self._quiet else self.updates.append(event.update))

    def take(self, updates: list[bytes]) -> None:
        """Apply what others made; it is not recorded as this author's."""
        self._quiet = True
        with self.doc.transaction():
            for update in updates:
                self.doc.apply_update(update)
        self._quiet = False


def write(author: Author, rng: random.Random) -> None:
    text = author.text
    # pycrdt counts in UTF-8 bytes: only positions between characters will do.
    at = len(str(text)[: rng.randint(0, len(str(text)))].encode())
    text.insert(at, rng.choice(WORDS))


def erase(author: Author, rng: random.Random) -> None:
    content = str(author.text)
    if content:
        start = rng.randrange(len(content))
        end = min(len(content), start + rng.randint(1, 5))
        del author.text[len(content[:start].encode()) : len(content[:end].encode())]


def highlight(author: Author, rng: random.Random) -> None:
    content = str(author.text)
    if content:
        start = rng.randrange(len(content))
        value = rng.choice([True, None, {"deep": [1, "x", None]}, "red"])
        author.text.format(len(content[:start].encode()), len(content.encode()), {rng.choice("bi"): value})


def value(rng: random.Random) -> object:
    plain = [None, True, False, 7, -3, 2**40, 0.5, 1e-9, "", "潮 😀", b"\x00\xff", [1, [2, {"k": []}]], {"a": {"b": 1.5}}]
    nested = [Map({"k": "v"}), Array([1, Map({"x": Text("y")})]), Text("nested 😀")]
    return rng.choice([*plain, *nested])


def put(author: Author, rng: random.Random) -> None:
    author.map[rng.choice(["k", "title", "é"])] = value(rng)


def drop(author: Author, rng: random.Random) -> None:
    keys = list(author.map.keys())
    if keys:
        del author.map[rng.choice(keys)]


def push(author: Author, rng: random.Random) -> None:
    author.array.insert(rng.randint(0, len(author.array)), value(rng))


def pull(author: Author, rng: random.Random) -> None:
    if len(author.array):
        del author.array[rng.randrange(len(author.array))]


def mark_up(author: Author, rng: random.Random) -> None:
    children = author.xml.children
    if len(children) and rng.random() < 0.5:
        child = children[rng.randrange(len(children))]
        if isinstance(child, XmlElement):
            child.attributes["class"] = rng.choice(["x", "潮"])
            child.children.append(XmlText("inner 😀"))
        elif rng.random() < 0.5:
            del children[0]
    else:
        children.append(rng.choice([XmlElement("p"), XmlText("text")]))


def several(author: Author, rng: random.Random) -> None:
    with author.doc.transaction():
        for _ in range(rng.randint(2, 6)):
            rng.choice(EDITS)(author, rng)


EDITS: list[Callable[[Author, random.Random], None]] = [write, write, erase, highlight, put, drop, push, pull, mark_up]


def record(seed: int, edits: int = 60, clients: int = 3) -> list[bytes]:
    """The updates of a session, in an order in which a document can take them one by one.

    The authors see each other's edits with delays, so that concurrent ones are among them.
    """
    rng = random.Random(seed)
    # Ids as Yjs (32 bits) and yrs (53 bits) draw them, and small ones.
    bits = [rng.choice([7, 32, 53]) for _ in range(clients)]
    authors = [Author(client_id) for client_id in {rng.randrange(1, 2**size): None for size in bits}]
    clients = len(authors)
    log: list[bytes] = []
    seen = [0] * clients
    for _ in range(edits):
        index = rng.randrange(clients)
        author = authors[index]
        if rng.random() < 0.3:
            author.take(log[seen[index] :])
            seen[index] = len(log)
        before = len(author.updates)
        rng.choice([*EDITS, several])(author, rng)
        log += author.updates[before:]
    return log


def bulk(seed: int) -> list[bytes]:
    """What reconnecting clients send: whole documents and diffs, of several clients in one update."""
    rng = random.Random(seed)
    log = record(seed)
    doc: Doc[Any] = Doc()
    updates = []
    known = b"\x00"
    for index, update in enumerate(log):
        doc.apply_update(update)
        if rng.random() < 0.1 or index == len(log) - 1:
            updates.append(doc.get_update(rng.choice([known, b"\x00"])))
            known = doc.get_state()
    return updates


ALL: list[Callable[[int], list[bytes]]] = [partial(record), bulk]
