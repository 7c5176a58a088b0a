"""What an application can show its user about a document's sync."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ebbtide_client.errors import ClientError


class Mode(Enum):
    """What the application asked for."""

    OFFLINE = "offline"
    """Nothing is sent unless `push` is called."""
    PUSH = "push"
    """Edits are pushed in batches, and what others wrote is asked for now and then."""
    LIVE = "live"
    """A WebSocket carries edits both ways as they happen."""


class Connection(Enum):
    """What there is."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    PUSHING = "pushing"
    """In push mode, and the last exchange reached the server."""
    LIVE = "live"
    """The socket is open and the replica has all that the server had."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An edit that the server refused for good. It stays in the local document until the application decides."""

    id: int
    document: str
    update: bytes
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """`unsynced` counts edits that are not known to be durable on the server, rejected ones not included.

    `problem` is why there is no connection, None when nothing is wrong.
    """

    connection: Connection
    unsynced: int
    rejected: tuple[Rejected, ...]
    problem: ClientError | None
