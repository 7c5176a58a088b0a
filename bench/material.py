"""What the clients bring: documents and offline queues, made once with pycrdt and kept in the cache."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pycrdt import Doc, Text, TransactionEvent

from bench.errors import BenchError
from bench.peers import CACHE, REPOSITORY

FIRST_CLIENT = 3_000_000_000  # loadgen.h has the same number


@dataclass(frozen=True)
class Material:
    """A file of updates for the load generator, each behind its length in four bytes.

    `clocks` counts what a replica that has them all has seen; `text` is what it then reads, where that is known.
    """

    path: Path
    clocks: int
    text: str | None


def paper() -> Material:
    """A recorded paper of 260,000 edits, as the one update that a new client gets.

    Raises BenchError when the trace is not there.
    """
    folder = Path(os.environ.get("EBBTIDE_TRACES", REPOSITORY.parent / "shared" / "traces"))
    trace = folder / "automerge-paper.json.gz"
    if not trace.exists():
        raise BenchError(f"{trace} is missing: set EBBTIDE_TRACES to the folder that holds the editing traces")
    recorded = trace.read_bytes()
    content = json.loads(gzip.decompress(recorded))
    path = CACHE / f"paper-{hashlib.sha256(recorded).hexdigest()[:12]}.bin"
    if not path.exists():
        print("typing the 260,000-edit document once ...", flush=True)
        document, text = _blank(FIRST_CLIENT)
        for transaction in content["txns"]:
            with document.transaction():
                for position, deleted, inserted in transaction["patches"]:
                    if deleted:
                        del text[position : position + deleted]
                    if inserted:
                        text.insert(position, inserted)
        _write(path, [document.get_update()])
    clocks = sum(len(inserted) for txn in content["txns"] for _, _, inserted in txn["patches"])
    return Material(path, clocks, content["endContent"])


def page(size: int = 5_000) -> Material:
    """A document whose encoded state is about `size` bytes, typed as paragraphs at random places."""
    path = CACHE / f"page-{size}.bin"
    chance = random.Random(size)
    document, text = _blank(FIRST_CLIENT)
    written = ""
    while len(document.get_update()) < size:
        paragraph = "".join(chance.choices("abcdefghij klmnopqrstuvwxyz", k=480))
        position = chance.randrange(len(written) + 1)
        text.insert(position, paragraph)
        written = written[:position] + paragraph + written[position:]
    _write(path, [document.get_update()])
    return Material(path, len(written), written)


@cache
def queues(devices: int, edits: int) -> list[list[bytes]]:
    """Offline queues on one document: of each device the updates in the order in which they were typed."""
    result = []
    for device in range(devices):
        chance = random.Random(device)
        document, text = _blank(FIRST_CLIENT + device)
        typed: list[bytes] = []
        subscription = document.observe(lambda event, typed=typed: typed.append(_update_of(event)))
        position = 0
        for length in range(edits):
            position = position + 1 if length and chance.random() < 0.875 else chance.randrange(length + 1)
            text.insert(min(position, length), chance.choice("abcdefghijklmnopqrstuvwxyz"))
        document.unobserve(subscription)
        result.append(typed)
    return result


def merged(queued: list[list[bytes]]) -> Material:
    """The same queues as their clients hand them over when they reconnect: one update a device."""
    updates = []
    for device, queue in enumerate(queued):
        document, _ = _blank(FIRST_CLIENT + device)
        for update in queue:
            document.apply_update(update)
        updates.append(document.get_update())
    path = CACHE / f"queues-{len(queued)}x{len(queued[0])}.bin"
    _write(path, updates)
    return Material(path, sum(len(queue) for queue in queued), None)


def read_text(updates: Iterable[bytes]) -> str:
    """The text that a replica of ours reads after these updates."""
    document, text = _blank(1)
    for update in updates:
        document.apply_update(update)
    return str(text)


def read_updates(path: Path) -> list[bytes]:
    """The updates of a file that the load generator wrote."""
    content, at, updates = path.read_bytes(), 0, []
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at)
        updates.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    return updates


def _blank(client: int) -> tuple[Doc[Text], Text]:
    document: Doc[Text] = Doc(client_id=client)
    return document, document.get("text", type=Text)


def _update_of(event: TransactionEvent) -> bytes:
    update: bytes = event.update
    return update


def _write(path: Path, updates: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(struct.pack("<I", len(update)) + update for update in updates))
