"""How patient and how greedy a client is. The defaults suit a laptop and a phone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are seconds, sizes bytes."""

    batch_entries: int = 1000
    """Entries in one push at most; fewer while the server finds its requests too large."""
    batch_bytes: int = 1 << 20
    """Bytes of updates in one push at most, except that a larger single update travels alone."""
    batch_documents: int = 500
    """Open documents that one request asks for at most; a server gives 1,000."""
    request_timeout: float = 30.0
    """How long a push may take, and how long opening a socket may take."""
    heartbeat: float = 20.0
    """After this long without a message the server is pinged; after half as long again the connection is dropped."""
    confirm_after: float = 5.0
    """A live edit without an echo by then is settled by a push, whose receipt also says why it was refused."""
    first_delay: float = 0.5
    """The upper bound of the first reconnect's delay; it doubles with each failure."""
    longest_delay: float = 30.0
    gather: float = 0.2
    """In push mode: how long edits gather before they are sent."""
    pull_interval: float = 15.0
    """In push mode: how often to ask for what others wrote."""
    max_message_bytes: int = 128 << 20
    """The largest WebSocket message taken from the server: one encoded document."""
    max_answer_bytes: int = 320 << 20
    """The largest answer to a push taken: a server makes it of 16 MiB and up to four documents of 64 MiB."""
    compact_after: int = 1000
    """Local log entries of a document after which they become one."""
