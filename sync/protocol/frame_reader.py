"""WebSocket framing of what a client sends (RFC 6455, sections 5.2 to 5.5), bytes in and messages out.

Nearly every message is one short edit in a frame of its own, so those take a handful of operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sync.protocol.errors import MalformedFrame, MalformedMessage, MessageTooLong
from sync.protocol.frame import Opcode

_PIECE = 1 << 16
"""Bytes unmasked at a time: what that takes beside the payload stays small."""

_OPCODES = frozenset(Opcode)


class Control(NamedTuple):
    """A ping, a pong or a close; `payload` has at most 125 bytes."""

    opcode: Opcode
    payload: bytes


class _Frame:
    """A frame whose payload has not all come: what `left` bytes are still to be unmasked with."""

    __slots__ = ("final", "left", "mask", "opcode", "payload")

    def __init__(self, opcode: Opcode, final: bool, mask: bytes, left: int) -> None:
        self.opcode = opcode
        self.final = final
        self.mask = mask
        self.left = left
        self.payload = bytearray()


class FrameReader:
    """Makes messages of a client's bytes. Neither extensions nor text messages are agreed upon.

    It holds what has come of one message, at most `limit` bytes. After an error the connection is of no more use.
    """

    __slots__ = ("_frame", "_head", "_limit", "_message", "_midway")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The beginning of a frame's header; the frame under way; and the message that fragments make.
        self._head = b""
        self._frame: _Frame | None = None
        self._message: bytearray | None = None
        # Whether any of the three is there.
        self._midway = False

    @property
    def held(self) -> int:
        """The bytes of an unfinished message."""
        frame = self._frame
        return len(self._head) + (len(frame.payload) if frame else 0) + (len(self._message) if self._message else 0)

    def short(self, data: bytes) -> list[bytes] | None:
        """The messages, if `data` is nothing but whole short binary frames; else None, and `read` is to take it."""
        if self._midway:
            return None
        messages: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            body = at + 6
            if body > end or data[at] != 0x82:
                return None
            size = data[at + 1] - 0x80
            if not 0 <= size < 126 or body + size > end:
                return None
            key = int.from_bytes((data[at + 2 : body] * 32)[:size], "little")
            at = body + size
            messages.append((int.from_bytes(data[body:at], "little") ^ key).to_bytes(size, "little"))
        return messages

    def read(self, data: bytes) -> Iterator[bytes | Control]:
        """The binary messages, and the control frames between them, that end in `data`. To be read to the end.

        Raises `MalformedFrame`, `MessageTooLong`, and `MalformedMessage` for a text message.
        """
        if self._head:
            data = self._head + data
        self._midway = True
        at = 0
        while True:
            frame = self._frame
            if frame is None:
                header = _header(data, at)
                if header is None:
                    self._head = data[at:]
                    self._midway = bool(self._head) or self._message is not None
                    return
                frame, at = header
                self._head = b""
                self._check(frame)
                self._frame = frame
            while frame.left and at < len(data):
                piece = data[at : at + min(frame.left, _PIECE)]
                frame.payload += _unmask(frame.mask, piece)
                turned = len(piece) % 4
                frame.mask = frame.mask[turned:] + frame.mask[:turned]
                frame.left -= len(piece)
                at += len(piece)
            if frame.left:
                return
            self._frame = None
            if frame.opcode >= Opcode.CLOSE:
                if frame.opcode == Opcode.CLOSE:
                    _check_close(frame.payload)
                yield Control(frame.opcode, bytes(frame.payload))
            elif self._message is None and frame.final:
                yield bytes(frame.payload)
            else:
                message = frame.payload if self._message is None else self._message
                if message is not frame.payload:
                    message += frame.payload
                self._message = None if frame.final else message
                if frame.final:
                    yield bytes(message)

    def _check(self, frame: _Frame) -> None:
        if frame.opcode >= Opcode.CLOSE:
            if not frame.final or frame.left > 125:
                raise MalformedFrame("a control frame is whole and has at most 125 bytes")
            return
        if frame.opcode == Opcode.TEXT:
            raise MalformedMessage("messages are binary here")
        if (frame.opcode == Opcode.CONTINUATION) != (self._message is not None):
            raise MalformedFrame("a fragment that continues nothing, or a message inside another")
        if frame.left + len(self._message or b"") > self._limit:
            raise MessageTooLong(self._limit)


def _header(data: bytes, at: int) -> tuple[_Frame, int] | None:
    """The frame that begins at `at`, and where its payload does; None while the header is not all there."""
    if len(data) - at < 2:
        return None
    first, second = data[at], data[at + 1]
    if first & 0x70:
        raise MalformedFrame("a frame has bits of an extension that was not agreed upon")
    if first & 0x0F not in _OPCODES:
        raise MalformedFrame("a frame has an opcode that does not exist")
    if not second & 0x80:
        raise MalformedFrame("a client masks its frames")
    length, at = second & 0x7F, at + 2
    size = {126: 2, 127: 8}.get(length, 0)
    if len(data) - at < size + 4:
        return None
    if size:
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
    return _Frame(Opcode(first & 0x0F), bool(first & 0x80), data[at : at + 4], length), at + 4


def _check_close(payload: bytearray) -> None:
    code = int.from_bytes(payload[:2], "big")
    # RFC 6455, section 7.4: below 3000 only registered codes, and none of those that stand for a missing one.
    if payload and (len(payload) < 2 or not (1000 <= code < 1015 or 3000 <= code < 5000) or code in (1004, 1005, 1006)):
        raise MalformedFrame("a close frame has a code that is none")


def _unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")
