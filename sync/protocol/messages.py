"""What a client can say: one vocabulary for both WebSocket dialects.

`address` is the document's name as the client wrote it; see `names.document_of`. State vectors and updates are Yjs v1
and are not looked into here.
"""

from __future__ import annotations

from typing import NamedTuple


class SyncStep1(NamedTuple):
    """The client's state vector. It asks for a step 2 with what it lacks, and for our own step 1."""

    address: str
    state_vector: bytes


class SyncStep2(NamedTuple):
    """What we lack, in answer to our step 1: the client's offline edits. Acknowledged once durable, also if empty."""

    address: str
    update: bytes


class SyncUpdate(NamedTuple):
    """One edit. Acknowledged once durable."""

    address: str
    update: bytes


class Awareness(NamedTuple):
    """An encoded awareness update: who is here and where their cursors are."""

    address: str
    update: bytes


class AwarenessQuery(NamedTuple):
    """Asks for all awareness states."""

    address: str


class AuthToken(NamedTuple):
    """A token to check, "" when the client has none. `version` is the provider's, if it said so."""

    address: str
    token: str
    version: str | None


class Stateless(NamedTuple):
    """An application's own message, outside the document."""

    address: str
    payload: str


class CloseDocument(NamedTuple):
    """The client is done with this document; the socket stays for others."""

    address: str
    reason: str


class Ping(NamedTuple):
    """Asks for a pong. It concerns the socket, not a document."""


class Pong(NamedTuple):
    """Answers a ping."""


DocumentMessage = SyncStep1 | SyncStep2 | SyncUpdate | Awareness | AwarenessQuery | AuthToken | Stateless | CloseDocument
Message = DocumentMessage | Ping | Pong
