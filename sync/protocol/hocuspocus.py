"""The Hocuspocus protocol: many documents on one socket, each message preceded by its document's address.

Numbers and layout are those of @hocuspocus/provider 2 to 4 (`types.ts`, `OutgoingMessages/`, `MessageReceiver.ts`) and
@hocuspocus/common (`auth.ts`, `routingKey.ts`).
"""

# ruff: noqa: ARG002 - a dialect takes what any dialect may need

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sync.protocol.errors import FieldTooLong, TrailingBytes, TruncatedMessage, UnexpectedMessage, UnknownMessage
from sync.protocol.lib0 import read_var_bytes, read_var_string, read_var_uint, write_var_string, write_var_uint
from sync.protocol.messages import (
    AuthToken,
    Awareness,
    AwarenessQuery,
    CloseDocument,
    Message,
    Ping,
    Pong,
    Stateless,
    SyncUpdate,
)
from sync.protocol.names import check_address
from sync.protocol.yws import read_sync

SYNC: Final = 0
AWARENESS: Final = 1
AUTH: Final = 2
QUERY_AWARENESS: Final = 3
STATELESS: Final = 5
CLOSE: Final = 7
PING: Final = 9
PONG: Final = 10

TOKEN: Final = 0

MAX_TOKEN_BYTES: Final = 16_384
MAX_VERSION_BYTES: Final = 64

_PING = bytes([PING])
_PONG = bytes([PONG])


class Hocuspocus:
    """What `@hocuspocus/provider` speaks."""

    name: Final = "hocuspocus"

    def decode(self, frame: bytes, address: str) -> Message:
        """See `Dialect.decode`; `address` is that of the socket's last message, or ""."""
        prefix = _prefix(address)
        at = len(prefix)
        if not (address and frame.startswith(prefix)):
            # Ping and pong have no address. One byte is too short for any other message.
            if frame == _PING:
                return Ping()
            if frame == _PONG:
                return Pong()
            address, at = read_var_string(frame, 0)
            check_address(address)
        if frame[at : at + 2] == b"\x00\x02" and len(frame) > at + 2:
            # Nearly all frames are one short edit, so they skip the general reader.
            length = frame[at + 2]
            if length < 0x80 and len(frame) == length + at + 3:
                return SyncUpdate(address, frame[at + 3 :])
        message, end = _read(frame, at, address)
        if end != len(frame):
            raise TrailingBytes(len(frame) - end)
        return message

    def step1(self, address: str, state_vector: bytes) -> bytes:
        """See `Dialect.step1`."""
        return b"%b\x00\x00%b%b" % (_prefix(address), write_var_uint(len(state_vector)), state_vector)

    def step2(self, address: str, update: bytes) -> bytes:
        """See `Dialect.step2`."""
        return b"%b\x00\x01%b%b" % (_prefix(address), write_var_uint(len(update)), update)

    def update(self, address: str, update: bytes) -> bytes:
        """See `Dialect.update`."""
        return b"%b\x00\x02%b%b" % (_prefix(address), write_var_uint(len(update)), update)

    def awareness(self, address: str, update: bytes) -> bytes:
        """See `Dialect.awareness`."""
        return b"%b\x01%b%b" % (_prefix(address), write_var_uint(len(update)), update)

    def acknowledged(self, address: str, update: bytes) -> bytes:
        """SyncStatus 1. The provider counts these, and providers up to 2.x have no floor: never one too many."""
        return _prefix(address) + b"\x08\x01"

    def refused(self, address: str) -> bytes:
        """SyncStatus 0: the provider goes on showing the edit as unsynced."""
        return _prefix(address) + b"\x08\x00"

    def granted(self, address: str, can_write: bool) -> bytes:
        """See `Dialect.granted`."""
        return _prefix(address) + b"\x02\x02" + write_var_string("read-write" if can_write else "readonly")

    def denied(self, address: str, reason: str) -> bytes:
        """See `Dialect.denied`."""
        return _prefix(address) + b"\x02\x01" + write_var_string(reason)

    def reauthenticate(self, address: str) -> bytes:
        """A bare Auth/Token: providers from 3.3 on answer with a fresh token, older ones ignore it."""
        return _prefix(address) + b"\x02\x00"

    def pong(self) -> bytes:
        """See `Dialect.pong`."""
        return _PONG


def _read(frame: bytes, at: int, address: str) -> tuple[Message, int]:
    kind, at = read_var_uint(frame, at)
    if kind == SYNC:
        return read_sync(frame, at, address)
    if kind == AWARENESS:
        update, at = read_var_bytes(frame, at)
        return Awareness(address, update), at
    if kind == AUTH:
        return _read_auth(frame, at, address)
    if kind == QUERY_AWARENESS:
        return AwarenessQuery(address), at
    if kind == STATELESS:
        payload, at = read_var_string(frame, at)
        return Stateless(address, payload), at
    if kind == CLOSE:
        # Providers send no reason; the server's own close message has one.
        reason, at = read_var_string(frame, at) if at < len(frame) else ("", at)
        return CloseDocument(address, reason), at
    if kind <= PONG:
        # SyncReply (4) and BroadcastStateless (6) travel between Hocuspocus servers, SyncStatus (8) from server to client.
        raise UnexpectedMessage(kind)
    raise UnknownMessage(kind)


def _read_auth(frame: bytes, at: int, address: str) -> tuple[AuthToken, int]:
    kind, at = read_var_uint(frame, at)
    if kind != TOKEN:
        raise UnexpectedMessage(AUTH)
    token, at = _read_bounded(frame, at, "the token", MAX_TOKEN_BYTES)
    if at == len(frame):
        return AuthToken(address, token, None), at
    version, at = _read_bounded(frame, at, "the provider version", MAX_VERSION_BYTES)
    # The version came with 4.0; what later providers add behind it is theirs to add.
    return AuthToken(address, token, version), len(frame)


def _read_bounded(frame: bytes, at: int, field: str, limit: int) -> tuple[str, int]:
    length, start = read_var_uint(frame, at)
    if start + length > len(frame):
        raise TruncatedMessage
    if length > limit:
        raise FieldTooLong(field, limit)
    return read_var_string(frame, at)


@lru_cache(maxsize=4096)
def _prefix(address: str) -> bytes:
    return write_var_string(address)
