"""The receiving side of WebSocket framing: what a client may send, in whatever pieces it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.protocol.errors import MalformedFrame, MalformedMessage, MessageTooLong, ProtocolError
from sync.protocol.frame import Opcode, close
from sync.protocol.frame_reader import Control, FrameReader

LIMIT = 100_000
MASK = b"\x12\x9a\x00\xfe"


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, bits: int = 0, masked: bool = True) -> bytes:
    """A client's frame, written after the RFC's figure and not after the code."""
    size = len(payload)
    head = bytes([(0x80 if final else 0) | bits | opcode])
    if size < 126:
        head += bytes([size | 0x80 * masked])
    elif size < 1 << 16:
        head += bytes([126 | 0x80 * masked]) + size.to_bytes(2, "big")
    else:
        head += bytes([127 | 0x80 * masked]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def read(reader: FrameReader, data: bytes) -> list[bytes | Control]:
    short = reader.short(data)
    return list(reader.read(data)) if short is None else list(short)


def test_the_rfcs_own_masked_example() -> None:
    hello = bytes.fromhex("82 85 37 fa 21 3d 7f 9f 4d 51 58".replace(" ", ""))
    assert FrameReader(LIMIT).short(hello + hello) == [b"Hello", b"Hello"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, LIMIT])
def test_a_message_of_every_length_coding(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    assert read(FrameReader(LIMIT), frame(Opcode.BINARY, payload)) == [payload]


@given(
    messages=st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), max_size=6),
    pings=st.booleans(),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=200),
)
def test_pieces_do_not_matter(messages: list[list[bytes]], pings: bool, cuts: list[int]) -> None:
    stream = b""
    expected: list[bytes | Control] = []
    for fragments in messages:
        for index, payload in enumerate(fragments):
            if pings:
                stream += frame(Opcode.PING, b"?")
                expected.append(Control(Opcode.PING, b"?"))
            opcode = Opcode.CONTINUATION if index else Opcode.BINARY
            stream += frame(opcode, payload, final=index == len(fragments) - 1)
        expected.append(b"".join(fragments))
    reader, at = FrameReader(LIMIT), 0
    found: list[bytes | Control] = []
    for size in cuts * (len(stream) + 1):
        if at >= len(stream):
            break
        found += read(reader, stream[at : at + size])
        at += size
    assert found == expected


@pytest.mark.parametrize(
    "data",
    [
        frame(Opcode.BINARY, b"x", masked=False),
        frame(Opcode.BINARY, b"x", bits=0x40),
        frame(3, b"x"),
        frame(11, b"x"),
        frame(Opcode.PING, b"x" * 126),
        frame(Opcode.CLOSE, b"", final=False),
        frame(Opcode.CLOSE, b"\x03"),
        frame(Opcode.CLOSE, (1005).to_bytes(2, "big")),
        frame(Opcode.CLOSE, (999).to_bytes(2, "big")),
        frame(Opcode.CONTINUATION, b"x"),
        frame(Opcode.BINARY, b"x", final=False) + frame(Opcode.BINARY, b"x"),
    ],
)
def test_what_breaks_the_rfc_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        read(FrameReader(LIMIT), data)


def test_text_is_refused_by_name() -> None:
    with pytest.raises(MalformedMessage):
        read(FrameReader(LIMIT), frame(Opcode.TEXT, b"hello"))


def test_what_came_before_an_error_is_given_out_first() -> None:
    messages = FrameReader(LIMIT).read(frame(Opcode.BINARY, b"good") + frame(3))
    assert next(messages) == b"good"
    with pytest.raises(MalformedFrame):
        next(messages)


def test_a_message_is_refused_by_what_it_announces() -> None:
    announced = frame(Opcode.BINARY, b"x" * (LIMIT + 1))[:14]
    with pytest.raises(MessageTooLong):
        read(FrameReader(LIMIT), announced)


def test_fragments_count_together() -> None:
    reader = FrameReader(LIMIT)
    for opcode in (Opcode.BINARY, Opcode.CONTINUATION):
        read(reader, frame(opcode, b"x" * (LIMIT // 2), final=False))
    with pytest.raises(MessageTooLong):
        read(reader, frame(Opcode.CONTINUATION, b"x"))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_anything_at_all_is_read_or_refused_by_name(pieces: list[bytes]) -> None:
    reader = FrameReader(64)
    try:
        for piece in pieces:
            for message in read(reader, piece):
                assert len(message if isinstance(message, bytes) else message.payload) <= 125
    except ProtocolError:
        pass


def test_a_close_frame_has_as_many_whole_characters_as_fit() -> None:
    sent = close(4400, "ü" * 100)
    assert sent[:4] == bytes([0x88, 2 + 122]) + (4400).to_bytes(2, "big")
    assert sent[4:].decode() == "ü" * 61


@pytest.mark.parametrize(
    "payload", [b"", (1000).to_bytes(2, "big"), (1001).to_bytes(2, "big") + b"bye", (4400).to_bytes(2, "big")]
)
def test_a_close_frame_may_have_a_code_and_a_reason(payload: bytes) -> None:
    assert read(FrameReader(LIMIT), frame(Opcode.CLOSE, payload)) == [Control(Opcode.CLOSE, payload)]
