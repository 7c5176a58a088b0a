"""Edit Yjs documents offline and online, and keep them in sync with an Ebbtide server."""

from __future__ import annotations

from ebbtide_client.client import Client
from ebbtide_client.document import Document
from ebbtide_client.errors import (
    AccessDenied,
    ClientError,
    EditsRejected,
    LineageDiffers,
    OutboxFailed,
    OutboxInUse,
    Refused,
    ServerBusy,
    SyncStopped,
    TokenRefused,
    UnexpectedAnswer,
    Unreachable,
    WrongAddress,
)
from ebbtide_client.exchange import Pushed
from ebbtide_client.settings import Settings
from ebbtide_client.status import Connection, Mode, Rejected, Status

__all__ = [
    "AccessDenied",
    "Client",
    "ClientError",
    "Connection",
    "Document",
    "EditsRejected",
    "LineageDiffers",
    "Mode",
    "OutboxFailed",
    "OutboxInUse",
    "Pushed",
    "Refused",
    "Rejected",
    "ServerBusy",
    "Settings",
    "Status",
    "SyncStopped",
    "TokenRefused",
    "UnexpectedAnswer",
    "Unreachable",
    "WrongAddress",
]
