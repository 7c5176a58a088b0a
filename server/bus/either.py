"""News by Redis, and by a change stream of MongoDB while Redis brings none: see docs/design/change-streams.md."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from server.bus.mongo import MongoBus
from server.bus.redis import RedisBus
from server.figures import Figure
from sync.rooms.ports import Listener, News

GRACE_SECONDS = 0.25
"""How long Redis is away before the stream begins: a connection made anew at once is not worth one."""

LINGER_SECONDS = 5.0
"""How long the stream goes on after Redis is back: the other nodes find it a little later, and tell by it then."""


class EitherBus:
    """A node's end of both; see `server.bus.ports.NodeBus`. The stream runs while Redis is away, and a while longer."""

    def __init__(
        self, redis: RedisBus, stream: MongoBus, *, grace: float = GRACE_SECONDS, linger: float = LINGER_SECONDS
    ) -> None:
        """Takes both over, to close them. `grace` and `linger` are seconds."""
        self.redis = redis
        self.stream = stream
        self._grace = grace
        self._linger = linger
        self._task = asyncio.get_running_loop().create_task(self._alternate())

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        self.redis.publish(document, news)

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self.redis.subscribe(document, listener)
        self.stream.subscribe(document, listener)

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self.redis.unsubscribe(document, listener)
        self.stream.unsubscribe(document, listener)

    def figures(self) -> Sequence[Figure]:
        """See `NodeBus.figures`: those of both."""
        return [*self.redis.figures(), *self.stream.figures()]

    async def close(self) -> None:
        """See `Bus.close`."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.redis.close()
        await self.stream.close()

    async def _alternate(self) -> None:
        while True:
            await self.redis.until(healthy=False)
            if await self._stays(healthy=False, seconds=self._grace):
                self.stream.start()
                await self.redis.until(healthy=True)
                while not await self._stays(healthy=True, seconds=self._linger):
                    await self.redis.until(healthy=True)
                await self.stream.stop()

    async def _stays(self, *, healthy: bool, seconds: float) -> bool:
        """Whether Redis stays as it is for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.redis.until(healthy=not healthy)
        except TimeoutError:
            return True
        return False
