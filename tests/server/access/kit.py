"""What the tests of carriers share: nodes that learn of each other's revocations, and a mistake on the way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from server.access.ports import Carrier
from server.access.revocations import Kind, Revocation, Revocations

PATIENCE = 30.0
HOURS = 24


class Node:
    """The revocations that a node knows, and what carries them to others. Whoever makes a node closes it."""

    def __init__(self, carrier: Carrier, revocations: Revocations) -> None:
        self.carrier = carrier
        self.revocations = revocations

    async def revokes(self, revocation: Revocation) -> None:
        await self.carrier.spread(self.revocations.add(revocation))

    async def learns(self, *revocations: Revocation) -> None:
        async with asyncio.timeout(PATIENCE):
            while not set(revocations) <= set(self.revocations):
                await asyncio.sleep(0.02)

    async def is_healthy(self, value: bool = True) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.carrier.healthy is not value:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Close the carrier, twice as may happen."""
        await self.carrier.close()
        await self.carrier.close()


def subject(name: str = "ada", at: float = 0.0) -> Revocation:
    return Revocation(Kind.SUBJECT, name, at or float(int(time.time())))


async def check_a_mistake_of_ours(
    one: Node, two: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong while the second node learns of a revocation is said, and does not end its listening."""
    await two.is_healthy()
    learn = two.revocations.learn

    def fails(revocation: Revocation) -> Any:
        monkeypatch.setattr(two.revocations, "learn", learn)
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(two.revocations, "learn", fails)
    ada = subject()
    await one.revokes(ada)
    await two.learns(ada)
    await two.is_healthy()
    assert "a mistake of ours" in caplog.text
