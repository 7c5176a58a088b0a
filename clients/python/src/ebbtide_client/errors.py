"""What can go wrong between an edit and its place in the server's log. Codes are stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebbtide_client.status import Rejected


class ClientError(Exception):
    """The root. `reason` says in a sentence what happened and, where it helps, what to do."""

    code = "client-error"
    final = False
    """The sync of a document has ended with this: trying again is of no use until the application did something."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(ClientError):
    """No answer came: no network, no server, or a connection that went silent. Trying again later is right."""

    code = "unreachable"


class ServerBusy(ClientError):
    """The server asked to come back later, after `retry_after` seconds if it named a time."""

    code = "server-busy"

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class AccessDenied(ClientError):
    """The token is missing, expired or not good for this document. A new token may help."""

    code = "access-denied"


class TokenRefused(AccessDenied):
    """The one token that this client was given is not good and will not become so. A new `Client` needs another one."""

    code = "token-refused"
    final = True


class Refused(ClientError):
    """The server refused a whole request; `status` is its HTTP status, `problem` its code ("" when it gave none)."""

    code = "refused"

    def __init__(self, reason: str, status: int, problem: str) -> None:
        super().__init__(reason)
        self.status = status
        self.problem = problem


class WrongAddress(Refused):
    """There is a web server, but not an Ebbtide server at the URL that the client was given."""

    code = "wrong-address"


class UnexpectedAnswer(ClientError):
    """What came is not the protocol: another kind of server, or something in between."""

    code = "unexpected-answer"


class EditsRejected(ClientError):
    """The server refused edits of a document for good; `rejected` has them, oldest first, each with its code and reason.

    They are still in the local document. `Document.retry_rejected` sends them again, `Client.discard` gives them up.
    """

    code = "edits-rejected"

    def __init__(self, document: str, rejected: Sequence[Rejected]) -> None:
        first, count = rejected[0], len(rejected)
        super().__init__(
            f"the server refused {count} {'edit' if count == 1 else 'edits'} of {document!r}: {first.reason} ({first.code})"
        )
        self.document = document
        self.rejected = tuple(rejected)


class LineageDiffers(ClientError):
    """The server's document has another history than this replica, so the two must not be merged.

    Unsynced edits are kept. `Client.discard` hands them out and lets the document be opened afresh.
    """

    code = "lineage-differs"
    final = True

    def __init__(self, document: str, reason: str) -> None:
        super().__init__(reason)
        self.document = document


class OutboxFailed(ClientError):
    """SQLite could not write. An edit is then in memory alone, and is tried again with the next one."""

    code = "outbox-failed"


class OutboxInUse(ClientError):
    """Another process, or another `Client`, has the outbox open."""

    code = "outbox-in-use"


class SyncStopped(ClientError):
    """An error in this client, which is logged. Edits are kept; switching the mode starts the sync again."""

    code = "sync-stopped"
    final = True
