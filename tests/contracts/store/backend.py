"""Where a store's data is, for tests that damage it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sync.rooms.ports import Store


class StoreBackend(ABC):
    """A place where a store's data is, and the means to damage it."""

    opener: str
    """`module:function`: an async function that opens a store at `address`, for a process of its own."""
    address: str

    @abstractmethod
    async def open(self) -> Store:
        """A further store on the same data, as another node has it."""

    @abstractmethod
    async def lose_entry(self, document: str, seq: int) -> None:
        """Remove one entry behind the store's back."""

    @abstractmethod
    async def lose_part(self, document: str, part: int) -> None:
        """Remove one part of the document's snapshot."""

    @abstractmethod
    async def shorten_part(self, document: str, part: int) -> None:
        """Cut the stored bytes of one part of the document's snapshot in half."""
