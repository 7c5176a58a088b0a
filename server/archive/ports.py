"""What checking a store needs to know that the `Store` port does not tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol


class Logged(NamedTuple):
    """A document that something is kept of, and the last number that is seen there.

    `document` is "" when its name is lost; `last` is 0 where nothing but the name is left.
    """

    document: str
    last: int


class LogListing(Protocol):
    """The documents of a store as its logs have them, whatever the changes feed and the heads say."""

    def documents_in_log(self) -> AsyncIterator[Logged]:
        """Every document of which there is an entry, a snapshot or a record, with no more than some of them in memory.

        A document may come more than once; its greatest `last` counts. What is appended meanwhile may be left out. Raises
        `StoreUnavailable`, and `StoreCorrupted` for a damaged file.
        """
        ...

    async def close(self) -> None:
        """Release the connection. Idempotent."""
        ...
