"""The records of a backup and their bytes: each in a frame with lengths and a checksum, its body compressed.

    frame := marker (4 bytes), checksum (u32), head length (u32), body length (u32), head, body

Numbers are big-endian. The checksum is the CRC-32 of all that follows it. The head is a MessagePack array whose first value
is the kind of record; the body, of the records that have one, is compressed by zlib.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple, cast, get_type_hints

import msgpack  # type: ignore[import-untyped]

from sync.rooms.ports import Entry

MARKER = b"\xebbd\x01"
_PREFIX = struct.Struct(">4sIII")
_LENGTHS = struct.Struct(">II")
MAX_HEAD = 1 << 16
MAX_BODY = 1 << 30
_ENTRIES, _PART, _DAMAGE, _COMMIT = range(1, 5)


class Entries(NamedTuple):
    """Entries `first` to `last` of a document's log. `latest` is the latest of their times."""

    document: str
    lineage: str
    first: int
    last: int
    latest: int


class Part(NamedTuple):
    """Part number `part` of `parts` of a snapshot at `seq`, of a state of `size` bytes.

    It was taken from a log that began behind `floor`, at the time `taken` (ms since 1970) of the machine that made the backup.
    """

    document: str
    lineage: str
    floor: int
    seq: int
    part: int
    parts: int
    size: int
    taken: int


class Damage(NamedTuple):
    """The document could not be read in full from the store. With an empty `reason` it could be again."""

    document: str
    reason: str


class Commit(NamedTuple):
    """All before this is whole: at `time` the backup has everything up to `cursor` of the feed that `feed` is a digest of."""

    feed: str
    cursor: int
    time: int


Record = Entries | Part | Damage | Commit
_KINDS: dict[int, type[Record]] = {_ENTRIES: Entries, _PART: Part, _DAMAGE: Damage, _COMMIT: Commit}
_TYPES = {kind: list(get_type_hints(kind).values()) for kind in _KINDS.values()}
_ENTRY_TYPES = list(get_type_hints(Entry).values())
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


class FrameError(Exception):
    """The bytes are no whole frame. `str()` says why. `document` is the one that they seem to be of, "" where that is lost."""

    def __init__(self, reason: str, document: str = "") -> None:
        super().__init__(reason)
        self.document = document


def encode(record: Record, body: bytes = b"") -> bytes:
    """One frame. `body` is compressed here."""
    head = cast("bytes", msgpack.packb([_NUMBERS[type(record)], *record]))
    packed = zlib.compress(body, 3) if body else b""
    rest = b"".join((_LENGTHS.pack(len(head), len(packed)), head, packed))
    return MARKER + struct.pack(">I", zlib.crc32(rest)) + rest


def read(file: BinaryIO) -> tuple[Record, bytes] | None:
    """The record at the file's position and its compressed body, or None at the end of the file.

    Raises `FrameError`; the position is then undefined.
    """
    prefix = file.read(_PREFIX.size)
    if not prefix:
        return None
    if len(prefix) < _PREFIX.size:
        raise FrameError("the file ends within a record")
    marker, checksum, head_length, body_length = _PREFIX.unpack(prefix)
    if marker != MARKER or head_length > MAX_HEAD or body_length > MAX_BODY:
        raise FrameError("what is there is no record")
    data = file.read(head_length + body_length)
    if len(data) < head_length + body_length:
        raise FrameError("the file ends within a record")
    if zlib.crc32(data, zlib.crc32(prefix[8:])) != checksum:
        raise FrameError("a record is damaged: its checksum differs", _seeming_document(data[:head_length]))
    return _record(data[:head_length]), data[head_length:]


def _seeming_document(head: bytes) -> str:
    with suppress(FrameError):
        record = _record(head)
        return "" if isinstance(record, Commit) else record.document
    return ""


def _record(head: bytes) -> Record:
    try:
        number, *values = msgpack.unpackb(head)
        kind = _KINDS[number]
        record: Record = kind(*values)
    except (ValueError, KeyError, TypeError, msgpack.UnpackException):
        raise FrameError("a record is of an unknown kind; a newer Ebbtide may read it") from None
    if [type(value) for value in record] != _TYPES[kind]:
        raise FrameError("a record has values of the wrong kind")
    if not all(_is_integer(value) for value in record if isinstance(value, int)):
        raise FrameError("a record has a number out of bounds")
    return record


def _is_integer(value: int) -> bool:
    """Whether it is one that SQLite and MongoDB have."""
    return -(2**63) <= value < 2**63


def packed(entries: Sequence[Entry]) -> bytes:
    """The body of a record of entries."""
    return cast("bytes", msgpack.packb([entry[1:] for entry in entries]))


def unpack_entries(record: Entries, body: bytes) -> list[Entry]:
    """The entries of a frame. Raises `FrameError`."""
    try:
        rows = msgpack.unpackb(decompressed(body))
        entries = [Entry(seq, *row) for seq, row in enumerate(rows, record.first)]
    except (ValueError, TypeError, msgpack.UnpackException):
        raise FrameError("a record holds no entries") from None
    if any([type(value) for value in entry] != _ENTRY_TYPES or not _is_integer(entry.time) for entry in entries):
        raise FrameError("a record has an entry with values of the wrong kind")
    if not entries or entries[-1].seq != record.last:
        raise FrameError("a record has another number of entries than it says")
    return entries


def decompressed(body: bytes) -> bytes:
    """What was compressed. Raises `FrameError`."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise FrameError(f"a record cannot be decompressed: {error}") from None
    if not stream.eof:
        raise FrameError("a record cannot be decompressed in full")
    return data
