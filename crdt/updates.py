"""Encoded updates and state vectors, without a document. Source of the formats: Yjs' `utils/encoding.js`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pycrdt

from crdt.coding import MAX_CLIENT, MAX_CLOCK, Malformed, Reader, write_uint
from crdt.errors import MalformedStateVector, MalformedUpdate
from crdt.info import UpdateInfo
from crdt.plain import plain_info
from crdt.walk import Walk

EMPTY_UPDATE = b"\x00\x00"
"""The update that does nothing."""

MAX_VECTOR_CLIENTS = 120_000
"""Client ids that a state vector may have: some more than a document (`crdt.document.MAX_CLIENTS`)."""

_MERGE_FANIN = 32


def inspect(update: bytes, most_parts: float = math.inf) -> UpdateInfo:
    """Check every byte of a Yjs v1 update and say what it does to the clocks.

    What passes can be given to yrs and to any Yjs peer. Whether its parents are of the right kind only a document can
    tell.

    Raises `MalformedUpdate`, or `TooManyParts` when it has more than `most_parts` (see `crdt.walk.MAX_PARTS`).
    """
    try:
        if info := plain_info(update):
            return info
        walk = Walk(update, most_parts)
        info = walk.run()
        if walk.has_json:
            pycrdt.get_state(update)
    except ValueError as error:
        raise MalformedUpdate(str(error)) from error
    return info


def merge(updates: Sequence[bytes]) -> bytes:
    """One update with the effect of all, which must be in an order in which a document can take them one by one.

    Raises `MalformedUpdate`.
    """
    level = list(updates) or [EMPTY_UPDATE]
    try:
        while len(level) > 1:
            level = [pycrdt.merge_updates(*level[i : i + _MERGE_FANIN]) for i in range(0, len(level), _MERGE_FANIN)]
    except ValueError as error:
        raise MalformedUpdate(str(error)) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise MalformedUpdate("yrs cannot merge it") from error
    return level[0]


def is_panic(error: BaseException) -> bool:
    """Whether Rust code gave up: that arrives as a class of its own, which is no `Exception` and cannot be imported."""
    return type(error).__name__ == "PanicException"


def decode_state_vector(state_vector: bytes, most_clients: int | None = None) -> dict[int, int]:
    """Client id -> the number of clocks known of it.

    Raises `MalformedStateVector`, also when there are more than `most_clients`.
    """
    reader = Reader(state_vector)
    try:
        count = reader.count(2)
        if most_clients is not None and count > most_clients:
            raise Malformed(f"it has more than {most_clients} client ids")
        uint = reader.uint
        clocks = {uint(MAX_CLIENT): uint(MAX_CLOCK) for _ in range(count)}
        if reader.pos != reader.end:
            raise Malformed("bytes follow its end")
    except Malformed as error:
        raise MalformedStateVector(str(error)) from error
    return clocks


def encode_state_vector(clocks: Mapping[int, int]) -> bytes:
    """The reverse of `decode_state_vector`."""
    parts = [write_uint(len(clocks))]
    for client, clock in clocks.items():
        parts.append(write_uint(client))
        parts.append(write_uint(clock))
    return b"".join(parts)
