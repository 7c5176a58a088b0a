"""A device that pushes its edits in batches, and repeats a request whose answer it did not get."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]

from tests.faults.editor import Editor

MSGPACK = {"Content-Type": "application/msgpack"}
PATIENCE_LOST = "no answer in time"
"""What is counted when the device gives a request up: its own doing, and no error of the server's."""

BATCH = 4
ANSWER_SECONDS = 6.0
"""After which the device gives a request up and sends it again, to the next node."""


class Pusher(Editor):
    """Writes a batch, pushes it until there are receipts, and takes what others wrote from the answer."""

    PAUSE = 0.1

    async def work(self, until: asyncio.Event) -> None:
        """See `Editor.work`."""
        cursor = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_SECONDS)) as http:
            while True:
                batch = [] if until.is_set() else [(self.written, self.write()) for _ in range(BATCH)]
                entries = [{"id": str(number), "doc": self.document, "update": update} for number, update in batch]
                request = {"device": self.name, "entries": entries, "since": cursor}
                request["pull"] = {self.document: self._doc.get_state()}
                answer = await self._answer(http, msgpack.packb(request))
                for receipt in answer["receipts"]:
                    if receipt["status"] in ("applied", "duplicate"):
                        self.note([int(receipt["id"])])
                    else:
                        self.noticed.errors[f"rejected {receipt['code']}"] += 1
                cursor = answer["cursor"]
                delta = answer["deltas"][self.document]
                if "update" in delta:
                    self.follow(delta["update"])
                else:
                    self.noticed.errors[f"delta {delta['code']}"] += 1
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait() if until.is_set() else until.wait(), self.PAUSE)

    async def _answer(self, http: aiohttp.ClientSession, body: bytes) -> dict[str, Any]:
        """The answer to the request, sent as often as it takes."""
        while True:
            try:
                async with http.post(f"{self.url}/api/v1/sync", data=body, headers=MSGPACK) as response:
                    if response.status == 200:
                        answer: dict[str, Any] = msgpack.unpackb(await response.read())
                        return answer
                    why = f"HTTP {response.status} {(await response.json())['code']}"
            except TimeoutError:
                why = PATIENCE_LOST
            except (aiohttp.ClientError, OSError) as error:
                why = type(error).__name__
            self.lost(why)
            await asyncio.sleep(self.PAUSE)
