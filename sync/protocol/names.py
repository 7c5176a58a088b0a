"""Names that clients choose: documents, and the addresses under which a socket speaks of them."""

from __future__ import annotations

import re
from typing import Final

from sync.protocol.errors import BadDocumentName, BadSessionId

MAX_DOCUMENT_NAME_BYTES: Final = 200
MAX_SESSION_ID_BYTES: Final = 128

# C0 and C1 control characters, DEL, and surrogates, which have no UTF-8.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_name(text: str, max_bytes: int) -> bool:
    """Whether `text` is 1 to `max_bytes` bytes of UTF-8 without control characters."""
    if text.isascii():
        return 0 < len(text) <= max_bytes and text.isprintable()
    return 0 < len(text) <= max_bytes and not _FORBIDDEN.search(text) and len(text.encode()) <= max_bytes


def check_document_name(name: str) -> str:
    """`name`, unchanged. Two names are the same only when they are the same code points: nothing is normalised.

    Raises `BadDocumentName`.
    """
    if not is_name(name, MAX_DOCUMENT_NAME_BYTES):
        raise BadDocumentName
    return name


def document_of(address: str) -> str:
    """The document that a checked address is about.

    A Hocuspocus provider with `sessionAwareness` writes `name NUL sessionId` where others write the name, so that
    several providers of one document can share a socket (@hocuspocus/common, `routingKey.ts`).
    """
    return address.partition("\0")[0]


def check_address(address: str) -> str:
    """`address`, unchanged: a document name, alone or with a session id. Raises `BadDocumentName` or `BadSessionId`."""
    name, separator, session_id = address.partition("\0")
    check_document_name(name)
    if separator and not is_name(session_id, MAX_SESSION_ID_BYTES):
        raise BadSessionId
    return address
