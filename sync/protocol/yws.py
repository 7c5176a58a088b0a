"""The y-websocket protocol: one document a socket, named in the URL.

Numbers and layout are those of y-protocols (`PROTOCOL.md`, `sync.js`, `auth.js`) and y-websocket (`y-websocket.js`).
"""

# ruff: noqa: ARG002 - a dialect takes what any dialect may need

from __future__ import annotations

from typing import Final

from sync.protocol.errors import TrailingBytes, UnexpectedMessage, UnknownMessage
from sync.protocol.lib0 import read_var_bytes, read_var_uint, write_var_string, write_var_uint
from sync.protocol.messages import Awareness, AwarenessQuery, Message, SyncStep1, SyncStep2, SyncUpdate

SYNC: Final = 0
AWARENESS: Final = 1
AUTH: Final = 2
QUERY_AWARENESS: Final = 3

STEP1: Final = 0
STEP2: Final = 1
UPDATE: Final = 2

_SHORT_UPDATE: Final = tuple(bytes([SYNC, UPDATE, length]) for length in range(0x80))


class YWebSocket:
    """What `y-websocket` providers speak."""

    name: Final = "y-websocket"

    def decode(self, frame: bytes, address: str) -> Message:
        """See `Dialect.decode`; `address` is the socket's document.

        A frame holds one message: providers up to 3.x read no further, and those that do send one a frame.
        """
        message, end = _read(frame, address)
        if end != len(frame):
            raise TrailingBytes(len(frame) - end)
        return message

    def edit(self, frame: bytes) -> bytes | None:
        """The update of a frame that is one short edit, as nearly all are; None for any other, which is for `decode`."""
        size = len(frame) - 3
        return frame[3:] if 0 <= size < 0x80 and frame[2] == size and frame[:2] == b"\x00\x02" else None

    def step1(self, address: str, state_vector: bytes) -> bytes:
        """See `Dialect.step1`."""
        return b"\x00\x00" + write_var_uint(len(state_vector)) + state_vector

    def step2(self, address: str, update: bytes) -> bytes:
        """See `Dialect.step2`."""
        return b"\x00\x01" + write_var_uint(len(update)) + update

    def update(self, address: str, update: bytes) -> bytes:
        """See `Dialect.update`."""
        length = len(update)
        return _SHORT_UPDATE[length] + update if length < 0x80 else b"\x00\x02" + write_var_uint(length) + update

    def awareness(self, address: str, update: bytes) -> bytes:
        """See `Dialect.awareness`."""
        return b"\x01" + write_var_uint(len(update)) + update

    def acknowledged(self, address: str, update: bytes) -> bytes:
        """The update itself: y-websocket 4 shows an edit as synced when its own content comes back."""
        return self.update(address, update)

    def refused(self, address: str) -> None:
        """See `Dialect.refused`: the protocol has no such message."""

    def granted(self, address: str, can_write: bool) -> None:
        """See `Dialect.granted`."""

    def denied(self, address: str, reason: str) -> bytes:
        """See `Dialect.denied`."""
        return b"\x02\x00" + write_var_string(reason)

    def reauthenticate(self, address: str) -> None:
        """See `Dialect.reauthenticate`."""

    def pong(self) -> None:
        """See `Dialect.pong`."""


def _read(frame: bytes, address: str) -> tuple[Message, int]:
    kind, at = read_var_uint(frame, 0)
    if kind == SYNC:
        return read_sync(frame, at, address)
    if kind == AWARENESS:
        update, at = read_var_bytes(frame, at)
        return Awareness(address, update), at
    if kind == QUERY_AWARENESS:
        return AwarenessQuery(address), at
    if kind == AUTH:
        raise UnexpectedMessage(kind)
    raise UnknownMessage(kind)


def read_sync(frame: bytes, at: int, address: str) -> tuple[SyncStep1 | SyncStep2 | SyncUpdate, int]:
    """The sync message whose subtype is at `at`, and the position behind it; both dialects have it alike."""
    kind, at = read_var_uint(frame, at)
    if kind > UPDATE:
        raise UnknownMessage(kind)
    content, at = read_var_bytes(frame, at)
    if kind == UPDATE:
        return SyncUpdate(address, content), at
    if kind == STEP2:
        return SyncStep2(address, content), at
    return SyncStep1(address, content), at
