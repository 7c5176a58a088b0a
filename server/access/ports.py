"""What revocations need of whatever keeps them and carries them to other nodes."""

from __future__ import annotations

from typing import Protocol

from server.access.revocations import Revocation


class Carrier(Protocol):
    """Keeps this node's revocations, and brings those of other nodes into its list; made with that list.

    Entries may arrive late, more than once and in any order: of two for the same name the later time holds.
    """

    @property
    def healthy(self) -> bool:
        """Whether revocations of other nodes arrive just now, and this node's are kept for those who come later."""
        ...

    async def spread(self, revocation: Revocation) -> None:
        """Return when the entry is kept, and on its way to every node that this carrier reaches.

        Idempotent. Raises `RevocationNotSpread`, and then it may be kept and on its way all the same.
        """
        ...

    async def close(self) -> None:
        """Let go of what the carrier holds. Idempotent."""
        ...
