"""What the two WebSocket protocols have in common, as the server sees it."""

from __future__ import annotations

from typing import Protocol

from sync.protocol.messages import Message


class Dialect(Protocol):
    """A WebSocket protocol: stateless, one instance serves all sockets.

    Encoders return the payload of one WebSocket message, or None where the protocol has no such message and nothing is
    to be sent. The caller passes addresses that a decoder of this dialect returned or `check_document_name` accepted.
    """

    @property
    def name(self) -> str:
        """A short, stable name for logs and metrics."""
        ...

    def decode(self, frame: bytes, address: str) -> Message:
        """The message in one binary WebSocket message.

        `address` is the socket's document where the protocol has one document a socket; elsewhere it is a hint, the
        address of the socket's last message ("" before the first), which makes decoding the next one cheaper.

        Raises `ProtocolError`.
        """
        ...

    def step1(self, address: str, state_vector: bytes) -> bytes:
        """Asks for what we lack. A client counts as synced only after it has answered this."""
        ...

    def step2(self, address: str, update: bytes) -> bytes:
        """Answers a client's step 1 with what it lacks."""
        ...

    def update(self, address: str, update: bytes) -> bytes:
        """Somebody's edit."""
        ...

    def awareness(self, address: str, update: bytes) -> bytes:
        """Encoded awareness states."""
        ...

    def acknowledged(self, address: str, update: bytes) -> bytes:
        """Tells the author that `update`, its step 2 or edit, is durable. Owed exactly once for each."""
        ...

    def refused(self, address: str) -> bytes | None:
        """Tells the author that its step 2 or edit was not taken. Owed in place of an acknowledgement."""
        ...

    def granted(self, address: str, can_write: bool) -> bytes | None:
        """The token is good for this."""
        ...

    def denied(self, address: str, reason: str) -> bytes:
        """The document is not for this client. The socket stays open for others."""
        ...

    def reauthenticate(self, address: str) -> bytes | None:
        """Asks for a fresh token."""
        ...

    def pong(self) -> bytes | None:
        """Answers a ping."""
        ...
