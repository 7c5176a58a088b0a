"""The layout of the log in MongoDB: blocks of entries, the intents beside them, and their keys.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from server.stores.mongo_database import Row
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Adoption, Append, Entry

BLOCK_BYTES = 15 << 20
"""The most that a block may hold: a BSON document has at most 16 MiB."""

ENTRY_OVERHEAD = 64
"""Of an entry in a block, beside its bytes and names; more than it is."""

INTENTS = ""
"""The document that intents are filed under. No real one has this name."""

COUNTED: Row = {"_id": {"s": int}, "c": int}
END: Row = {**COUNTED, "l": str}
BLOCK: Row = {**END, "t": int, "e": list}
"""What a block has, and of which types; `COUNTED` is what says where it ends, and `END` of which lineage too."""

Put = Append | Adoption


def key_range(document: str, first: Any, last: Any) -> Row:
    """A range of compound keys, in the order of the index on `_id`: the first field counts before the second."""
    return {"$gte": {"d": document, "s": first}, "$lte": {"d": document, "s": last}}


def blocks_between(document: str, first: Any, last: Any) -> Row:
    """A filter for the document's blocks that begin at these numbers or between them."""
    return {"_id": key_range(document, first, last)}


def block_row(append: Put, rows: Iterable[Sequence[Any]], first: int, now: int, node: str) -> Row:
    """The row for `rows`, which begin at number `first`, written at `now` (milliseconds since 1970) by `node`."""
    entries = [list(row) for row in rows]
    return {
        "_id": {"d": append.document, "s": first},
        "c": len(entries),
        "l": append.lineage,
        "t": now,
        "n": node,
        "e": entries,
    }


def intent_row(key: str, blocks: Iterable[Row]) -> Row:
    """The intent `key`: it names the document and the first number of every block that is about to be written.

    The feed has the documents in this order. Of several blocks of an append all are named: the log ends where the last does.
    """
    return {"_id": {"d": INTENTS, "s": key}, "of": [[block["_id"]["d"], block["_id"]["s"]] for block in blocks]}


def pieces_of(append: Put) -> list[tuple[int, Sequence[Sequence[Any]]]]:
    """The append in pieces that fit in a block each, with the number of the first entry of each: nearly always one."""
    rows = entries_of(append)
    pieces: list[tuple[int, Sequence[Sequence[Any]]]] = []
    start = size = 0
    for index, row in enumerate(rows):
        bytes_ = len(row[0]) + len(row[1]) + len(row[2]) + ENTRY_OVERHEAD
        if size and size + bytes_ > BLOCK_BYTES:
            pieces.append((append.expected + 1 + start, rows[start:index]))
            start, size = index, 0
        size += bytes_
    pieces.append((append.expected + 1 + start, rows[start:]))
    return pieces


def entries_of(append: Put) -> Sequence[Sequence[Any]]:
    """What a block holds of each entry: update, author, device; and the time, where it is not that of the block."""
    return append.drafts if isinstance(append, Append) else [entry[1:] for entry in append.entries]


def entry_from(document: str, seq: int, row: Any, time_: int) -> Entry:
    """Entry `seq`, from what a block of the time `time_` holds of it. Raises `StoreCorrupted`."""
    # An adopted entry has a time of its own.
    if isinstance(row, list) and len(row) in (3, 4):
        update, author, device, own = row if len(row) == 4 else (*row, time_)
        if isinstance(update, bytes) and isinstance(author, str) and isinstance(device, str) and isinstance(own, int):
            return Entry(seq, update, author, device, own)
    raise StoreCorrupted(document, f"entry {seq} has a value of the wrong kind")


def check_kinds(document: str, row: Row, kinds: Row) -> None:
    """Raises `StoreCorrupted` unless the fields that `kinds` names are there and of these types; they may be nested."""
    for field, kind in kinds.items():
        value = row.get(field)
        if isinstance(kind, dict) and isinstance(value, dict):
            check_kinds(document, value, kind)
        elif isinstance(kind, dict) or not isinstance(value, kind):
            raise StoreCorrupted(document, f"a row of it has no {field}, or one of the wrong kind")
