"""Two authors replay a session through a server, each seeing exactly what its transactions say it had seen.

The first author is live, the second pushes batches. Causes are honoured by an order in which both are always possible:
the second types as far ahead as what it has seen allows, and sends no more of it than the first may see next; the first
goes on once the second has to hear from it. So the second's outbox is all that is ever held back, as it is for somebody
who types in a tunnel, and nothing is delivered other than by the two ways that the client has.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ebbtide_client import Mode
from tests.e2e.demo.author import Author
from tests.e2e.demo.newcomer import fetch, lacking
from tests.e2e.demo.progress import Progress
from tests.e2e.demo.session import Session, Step, apply
from tests.harness.server_process import ServerProcess

OFFLINE_EVERY = 200
"""Edits after which the live author loses its network, on average; and the other's device is switched off and on."""
OFFLINE_FOR = 60
"""Edits that the live author makes without a network, at most."""
PUSH_EVERY = 25
"""Edits after which the second author pushes of its own accord, on average."""


class EditsLost(Exception):
    """The server lacks edits that it had confirmed before it was killed."""


class Replay:
    """`witness` is the server's own kind on the same data, with an address that the authors do not know."""

    def __init__(
        self,
        session: Session,
        live: Author,
        pushing: Author,
        server: ServerProcess,
        witness: ServerProcess,
        folder: Path,
        progress: Progress,
        seed: int,
    ) -> None:
        self._live, self._pushing = live, pushing
        self._steps = session.authors
        self._is_ascii = session.is_ascii
        self._server = server
        self._witness = witness
        self._folder = folder
        self._progress = progress
        self._random = random.Random(seed)
        self._total = sum(map(len, session.authors))
        self._typed = [0, 0]
        self._clocks = ([0], [0])
        self._edits: list[tuple[Author, bytes]] = []
        self._sent = 0
        self._arrived = 0
        self._pulled = 0
        self._offline_left = 0
        self.offline_periods = 0
        self.kills = 0

    async def run(self) -> None:
        """Type it all. At the end both replicas and the server have everything. Raises `EditsLost` in a group."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._live.document.switch(Mode.LIVE)
            while sum(self._typed) < self._total:
                await self._type_ahead()
                await self._type_live()
        await self._go_live()
        await self._live.document.synced()
        await self._pushing.push()
        await self._live.push()

    async def _type_ahead(self) -> None:
        """The second author types as far as what the first has typed allows."""
        author = self._pushing
        while (step := self._next(1)) is not None and step.seen <= self._typed[0]:
            if step.seen > self._pulled:
                await self._go_live()
                await self._live.document.synced()
                await author.push(0)
                self._pulled = self._typed[0]
            self._type(1, author, self._live)
            if self._happens(PUSH_EVERY):
                following = self._next(0)
                await self._push_to(self._typed[1] if following is None else min(self._typed[1], following.seen))
            if self._happens(OFFLINE_EVERY):
                await author.stop()
                await author.start()
            await self._show()

    async def _type_live(self) -> None:
        """The first author types until the second can go on."""
        author = self._live
        while (step := self._next(0)) is not None:
            if step.seen > self._arrived:
                await self._push_to(step.seen)
                await self._go_live()
                await self._arrive(step.seen)
            if author.live and self._happens(OFFLINE_EVERY):
                self.offline_periods += 1
                self._offline_left = self._random.randint(1, OFFLINE_FOR)
                await author.document.switch(Mode.OFFLINE)
            self._type(0, author, self._pushing)
            self._offline_left -= 1
            if not author.live and self._offline_left <= 0:
                await self._go_live()
            await self._show()
            following = self._next(1)
            if following is not None and following.seen <= self._typed[0]:
                return

    def _type(self, agent: int, author: Author, other: Author) -> None:
        step = self._steps[agent][self._typed[agent]]
        if author.clock(other.client_id) != self._clocks[1 - agent][step.seen]:
            raise RuntimeError(f"the {author.name} author does not see what its transaction {self._typed[agent]} builds on")
        unsynced = author.unsynced
        with author.document.edit():
            apply(author.text, step.patches, is_ascii=self._is_ascii)
        if author.unsynced > unsynced:
            self._edits.append((author, author.heard))
        self._typed[agent] += 1
        self._clocks[agent].append(author.clock(author.client_id))

    def _next(self, agent: int) -> Step | None:
        steps, typed = self._steps[agent], self._typed[agent]
        return steps[typed] if typed < len(steps) else None

    async def _push_to(self, count: int) -> None:
        """Let the first `count` transactions of the second author reach the server, and no more."""
        if count > self._sent:
            await self._pushing.push(count - self._sent)
            self._sent = count

    async def _arrive(self, count: int) -> None:
        """Wait until the first author has the first `count` transactions of the second."""
        clocks = self._clocks[1]
        await self._live.has(self._pushing.client_id, clocks[count])
        if clocks[count] == clocks[count - 1]:
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
        if not self.kills and done >= self._total // 2 and self._live.unsynced and (confirmed := self._confirmed()):
            self._progress.say(
                f"SIGKILL to the server at edit {done:,}: {len(confirmed):,} confirmed, "
                f"{self._live.unsynced} of the live author's not"
            )
            self.kills += 1
            self._server.kill()
            self._tasks.create_task(self._come_back(confirmed))
        elif self._random.random() < 0.1:
            await asyncio.sleep(0)
        self._progress.show(done, "live" if self._live.live else "offline")

    def _confirmed(self) -> Sequence[bytes]:
        """What the server has confirmed of both authors' edits, in the order of typing. Each author's are in their order."""
        counts = Counter(author for author, _ in self._edits)
        left = {author: count - author.unsynced for author, count in counts.items()}
        confirmed = []
        for author, edit in self._edits:
            if left[author]:
                left[author] -= 1
                confirmed.append(edit)
        return confirmed

    async def _come_back(self, confirmed: Sequence[bytes]) -> None:
        # The authors would bring back whatever the server lost, so somebody else looks first, where they cannot be.
        await asyncio.to_thread(self._witness.start)
        lost = lacking(await fetch(self._witness.url, self._folder / "witness.sqlite"), confirmed)
        self._witness.kill()
        if lost:
            raise EditsLost(f"the server confirmed {len(confirmed):,} edits before it was killed and lacks {lost:,} of them")
        await asyncio.to_thread(self._server.start)
        self._progress.say(f"the server is back, and a newcomer found all {len(confirmed):,} confirmed edits in it")
