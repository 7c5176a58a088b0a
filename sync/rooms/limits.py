"""How much a node's rooms may hold and how long. Sizes in bytes, times in seconds."""

from __future__ import annotations

from typing import NamedTuple


class RoomLimits(NamedTuple):
    """The bounds that keep a node's memory finite; every one is configuration."""

    update_bytes: int = 8 << 20
    document_bytes: int = 64 << 20
    presence_state_bytes: int = 64 << 10
    presence_timeout: float = 30.0
    presence_bytes: int = 128 << 20
    """Awareness states over all rooms; a new one that finds no room is passed over."""
    rooms: int = 10_000
    """Open rooms; the next one is refused."""
    idle_after: float = 5.0
    """A document leaves memory when nobody has written or joined for this long."""
    backlog_bytes: int = 1 << 20
    """A peer whose transport holds more than this is no longer written to: it lags, and catches up with one diff."""
    catch_up_bytes: int = 256 << 20
    """Large frames on their way to peers that have not taken them, over all rooms; who joins beyond it waits."""
    answer_bytes: int = 256 << 20
    """Deltas of pulls on their way to clients that have not taken them; beyond it, pulls are to come back."""
    pending_bytes: int = 64 << 20
    """Edits that are not durable, over all rooms of the node; beyond it, nobody is read from."""
    poll_interval: float = 1.0
    """How often a node without news asks the store whether another process wrote."""
    snapshot_entries: int = 1000
    """A snapshot is written when so many entries follow the last one ..."""
    snapshot_bytes: int = 256 << 10
    """... or when they are larger than the document, and larger than this."""
    keep_entries: int | None = None
    """Retention: entries to keep behind a snapshot, or None to keep all."""
