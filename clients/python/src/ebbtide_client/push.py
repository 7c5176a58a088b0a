"""Sync by exchanges alone: for edits that need not be seen at once, and for networks that keep no socket open."""

from __future__ import annotations

import asyncio

from ebbtide_client.backoff import Backoff
from ebbtide_client.errors import ClientError, ServerBusy
from ebbtide_client.exchange import Exchanges
from ebbtide_client.replica import Replica
from ebbtide_client.settings import Settings
from ebbtide_client.status import Connection
from ebbtide_client.troubles import Troubles


class PushEngine:
    """Keeps one document in sync by exchanges: after edits, and now and then."""

    def __init__(self, replica: Replica, exchanges: Exchanges, troubles: Troubles, settings: Settings) -> None:
        self._replica = replica
        self._exchanges = exchanges
        self._troubles = troubles
        self._settings = settings

    async def run(self) -> None:
        """Go on until cancelled, or until an error that is final, which only the application can settle."""
        replica, settings = self._replica, self._settings
        backoff = Backoff(settings.first_delay, settings.longest_delay)
        while True:
            replica.outgoing.clear()
            try:
                await self._exchanges.run([replica.name])
                await replica.compact(settings.compact_after)
            except ClientError as error:
                replica.show(Connection.OFFLINE, error)
                self._troubles.failed(replica.name, error)
                if error.final:
                    return
                await asyncio.sleep(backoff.delay(error.retry_after if isinstance(error, ServerBusy) else 0.0))
                continue
            backoff.reset()
            self._troubles.reached(replica.name)
            replica.show(Connection.PUSHING)
            try:
                async with asyncio.timeout(settings.pull_interval):
                    await replica.outgoing.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(settings.gather)
