from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.archive import frames
from server.archive.frames import Commit, Damage, Entries, FrameError, Part, Record
from sync.rooms.ports import Entry

ENTRIES = [Entry(seq, bytes(range(256)) * seq, "ann\u00e9", "phone", 1_700_000_000_000 + seq) for seq in range(7, 12)]
RECORDS: list[tuple[Record, bytes]] = [
    (Entries("d\u00e9 1", "L", 7, 11, 1_700_000_000_011), frames.packed(ENTRIES)),
    (Part("d", "L", 3, 9, 0, 2, 70_000, 1_700_000_000_000), b"state" * 10_000),
    (Part("d", "L", 3, 9, 1, 2, 70_000, 1_700_000_000_000), b""),
    (Damage("d", "a hole"), b""),
    (Commit("feed", 10**15, 1_700_000_000_000), b""),
]
FILE = b"".join(frames.encode(record, body) for record, body in RECORDS)


def read_all(file: io.BytesIO) -> tuple[list[Record], str]:
    """The records up to the first that is none, and why it is none."""
    found: list[Record] = []
    try:
        while (record := frames.read(file)) is not None:
            found.append(record[0])
    except FrameError as error:
        return found, str(error)
    return found, ""


def test_records_come_back() -> None:
    file = io.BytesIO(FILE)
    for record, body in RECORDS:
        found = frames.read(file)
        assert found is not None
        assert found[0] == record
        assert type(found[0]) is type(record)
        assert (frames.decompressed(found[1]) if found[1] else b"") == body
    assert frames.read(file) is None


def test_entries_come_back() -> None:
    record, body = frames.read(io.BytesIO(FILE)) or (None, b"")
    assert isinstance(record, Entries)
    assert frames.unpack_entries(record, body) == ENTRIES
    with pytest.raises(FrameError, match="another number of entries"):
        frames.unpack_entries(record._replace(last=12), body)
    with pytest.raises(FrameError, match="cannot be decompressed"):
        frames.unpack_entries(record, body[:-5])
    with pytest.raises(FrameError, match="cannot be decompressed"):
        frames.unpack_entries(record, b"x" + body)


@pytest.mark.parametrize("length", range(1, len(FILE), 7))
def test_a_file_that_ends_too_soon(length: int) -> None:
    found, why = read_all(io.BytesIO(FILE[:length]))
    assert found == [record for record, _ in RECORDS[: len(found)]]
    assert len(found) < len(RECORDS)
    assert why in ("", "the file ends within a record")


@pytest.mark.parametrize("at", range(0, len(FILE), 3))
def test_any_changed_byte_is_found(at: int) -> None:
    found, why = read_all(io.BytesIO(FILE[:at] + bytes([FILE[at] ^ 0x10]) + FILE[at + 1 :]))
    assert found == [record for record, _ in RECORDS[: len(found)]]
    assert why


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_an_error(data: bytes) -> None:
    for start in (b"", frames.MARKER):
        found, why = read_all(io.BytesIO(start + data))
        assert not found
        assert why or not start + data
