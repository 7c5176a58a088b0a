"""Two carriers side by side, of which one is enough."""

from __future__ import annotations

import asyncio

from server.access.errors import RevocationNotSpread
from server.access.ports import Carrier
from server.access.revocations import Revocation


class EitherCarrier:
    """A `Carrier` of two that reach the same nodes, each of which brings the other what it lacks."""

    def __init__(self, one: Carrier, other: Carrier) -> None:
        self._one = one
        self._other = other

    @property
    def healthy(self) -> bool:
        """See `Carrier.healthy`."""
        return self._one.healthy or self._other.healthy

    async def spread(self, revocation: Revocation) -> None:
        """See `Carrier.spread`. Tries both; the failure of one alone is none."""
        one, other = await asyncio.gather(self._one.spread(revocation), self._other.spread(revocation), return_exceptions=True)
        for outcome in (one, other):
            if outcome is not None and not isinstance(outcome, RevocationNotSpread):
                raise outcome
        if one is not None and other is not None:
            raise one

    async def close(self) -> None:
        """See `Carrier.close`."""
        await self._one.close()
        await self._other.close()
