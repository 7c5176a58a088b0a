"""Two authors replay a session through a server, each seeing exactly what its transactions say it had seen.

The first author is live, the second pushes batches. Causes are honoured by an order in which both are always possible:
the second types as far ahead as what it has seen allows, and sends no more of it than the first may see next; the first
goes on once the second has to hear from it. So the second's outbox is all that is ever held back, as it is for somebody who
types in a tunnel, and nothing is delivered other than by the two ways that the client has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from ebbtide_client import Mode

from tests.e2e.demo.author import Author
from tests.e2e.demo.progress import Progress
from tests.e2e.demo.server import Server
from tests.e2e.demo.session import Session, Step, apply

OFFLINE_EVERY = 200
"""Edits after which the live author loses its network, on average; and the other's device is switched off and on."""
OFFLINE_FOR = 60
"""Edits that the live author makes without a network, at most."""
PUSH_EVERY = 25
"""Edits after which the second author pushes of its own accord, on average."""
DOWN_SECONDS = 0.5
"""How long the killed server stays away."""


class Replay:
    def __init__(
        self, session: Session, live: Author, pushing: Author, server: Server, progress: Progress, seed: int
    ) -> None:
        self._live, self._pushing = live, pushing
        self._live_steps, self._pushing_steps = session.authors
        self._is_ascii = session.is_ascii
        self._server = server
        self._progress = progress
        self._random = random.Random(seed)
        self._total = len(self._live_steps) + len(self._pushing_steps)
        self._typed = [0, 0]
        self._clocks = [0]
        self._sent = 0
        self._arrived = 0
        self._pulled = 0
        self._offline_left = 0
        self._restart: asyncio.Task[None] | None = None
        self.offline_periods = 0
        self.kills = 0

    async def run(self) -> None:
        """Type it all. At the end both replicas and the server have everything."""
        await self._live.document.switch(Mode.LIVE)
        while sum(self._typed) < self._total:
            await self._type_ahead()
            await self._type_live()
        if self._restart is not None:
            await self._restart
        await self._go_live()
        await self._live.document.synced()
        await self._pushing.push()
        await self._live.push()

    async def _type_ahead(self) -> None:
        """The second author types as far as what the first has typed allows."""
        steps, author = self._pushing_steps, self._pushing
        while self._typed[1] < len(steps) and steps[self._typed[1]].seen <= self._typed[0]:
            if steps[self._typed[1]].seen > self._pulled:
                await self._go_live()
                await self._live.document.synced()
                await author.push(0)
                self._pulled = self._typed[0]
            self._type(author, steps)
            self._typed[1] += 1
            self._clocks.append(author.clock(author.client_id))
            if self._happens(PUSH_EVERY):
                await self._push_to(min(self._typed[1], self._next_live().seen))
            if self._happens(OFFLINE_EVERY):
                await author.stop()
                await author.start()
            await self._show()

    async def _type_live(self) -> None:
        """The first author types until the second can go on."""
        steps, author = self._live_steps, self._live
        while self._typed[0] < len(steps):
            step = steps[self._typed[0]]
            if step.seen > self._arrived:
                await self._push_to(step.seen)
                await self._go_live()
                await self._arrive(step.seen)
            if author.live and self._happens(OFFLINE_EVERY):
                self.offline_periods += 1
                self._offline_left = self._random.randint(1, OFFLINE_FOR)
                await author.document.switch(Mode.OFFLINE)
            self._type(author, steps)
            self._typed[0] += 1
            self._offline_left -= 1
            if not author.live and self._offline_left <= 0:
                await self._go_live()
            await self._show()
            if self._typed[1] < len(self._pushing_steps) and self._pushing_steps[self._typed[1]].seen <= self._typed[0]:
                return

    def _type(self, author: Author, steps: Sequence[Step]) -> None:
        step = steps[self._typed[author is self._pushing]]
        with author.document.edit():
            apply(author.text, step.patches, is_ascii=self._is_ascii)

    def _next_live(self) -> Step:
        left = self._live_steps[self._typed[0] :][:1]
        return left[0] if left else Step(len(self._pushing_steps), ())

    async def _push_to(self, count: int) -> None:
        """Let the first `count` transactions of the second author reach the server, and no more."""
        if count > self._sent:
            await self._pushing.push(count - self._sent)
            self._sent = count
            self._pulled = self._typed[0] if self._live.unsynced == 0 else self._pulled

    async def _arrive(self, count: int) -> None:
        """Wait until the first author has the first `count` transactions of the second."""
        await self._live.has(self._pushing.client_id, self._clocks[count])
        if self._clocks[count] == self._clocks[count - 1]:
            # Deletions have no clock that would tell of their arrival.
            await self._live.push(0)
        self._arrived = count

    async def _go_live(self) -> None:
        if not self._live.live:
            await self._live.document.switch(Mode.LIVE)

    def _happens(self, every: int) -> bool:
        return self._random.random() * every < 1

    async def _show(self) -> None:
        done = sum(self._typed)
        if self._restart is None and done >= self._total // 2 and self._live.unsynced:
            self._progress.say(f"SIGKILL to the server at edit {done:,}, {self._live.unsynced} of them unconfirmed")
            self.kills += 1
            await self._server.kill()
            self._restart = asyncio.create_task(self._come_back())
        elif self._random.random() < 0.1:
            await asyncio.sleep(0)
        self._progress.show(done, "live" if self._live.live else "offline")

    async def _come_back(self) -> None:
        await asyncio.sleep(DOWN_SECONDS)
        await self._server.start()
        self._progress.say("the server is back")
