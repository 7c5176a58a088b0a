"""The offline queue's way to the server: batches over HTTP, and a receipt for every entry."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ebbtide_client.backoff import Backoff
from ebbtide_client.endpoint import Endpoint
from ebbtide_client.errors import ClientError, LineageDiffers, Refused, ServerBusy, UnexpectedAnswer
from ebbtide_client.outbox import Entry, Outbox
from ebbtide_client.replica import Replica
from ebbtide_client.settings import Settings
from ebbtide_client.status import Connection, Rejected

_LINEAGE_DIFFERS = "lineage-differs"
_LATER = frozenset({"store-unavailable", "overloaded", "shutting-down"})
"""Codes of receipts that say nothing about the entry: it stays where it is."""


@dataclass(slots=True)
class Pushed:
    """What became of the entries of one exchange."""

    requests: int = 0
    applied: int = 0
    duplicate: int = 0
    rejected: int = 0


class Pusher:
    """Sends the outbox and takes in what others wrote. `replicas` are the open documents, by name."""

    def __init__(
        self, endpoint: Endpoint, outbox: Outbox, replicas: Mapping[str, Replica], device: str, settings: Settings
    ) -> None:
        self._endpoint = endpoint
        self._outbox = outbox
        self._replicas = replicas
        self._device = device
        self._settings = settings

    async def exchange(self, documents: Collection[str], at_most: int | None = None) -> Pushed:
        """Push what the outbox has of these documents, in order, then pull those of them that are open.

        `at_most` bounds the entries that are pushed. Returns once each of them is durable or rejected. Raises what
        `Endpoint.sync` does; `ServerBusy` or `LineageDiffers`, after everything else was seen to, when receipts say so.
        """
        pushed = Pushed()
        undecided: list[ClientError] = []
        largest = self._settings.batch_entries
        left = sys.maxsize if at_most is None else at_most
        after, more = 0, True
        while more:
            batch = self._outbox.pending(documents, after, min(largest, left), self._settings.batch_bytes)
            more = 0 < len(batch) < left and bool(self._outbox.pending(documents, batch[-1].id, 1, 0))
            pull = [] if more else [self._replicas[name] for name in documents if name in self._replicas]
            try:
                answer = await self._endpoint.sync(self._request(batch, pull))
            except Refused as error:
                if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or not batch:
                    raise
                more = True
                if len(batch) > 1:
                    largest = len(batch) // 2
                    continue
                self._reject(batch[0], error.problem or "update-too-large", error.reason)
                pushed.rejected += 1
            else:
                pushed.requests += 1
                self._settle(batch, answer, pushed, undecided)
                self._take_in(pull, answer, undecided)
            if batch:
                after = batch[-1].id
                left -= len(batch)
        if undecided:
            raise undecided[0]
        return pushed

    def _request(self, batch: Sequence[Entry], pull: Sequence[Replica]) -> dict[str, Any]:
        entries = [
            {"id": str(entry.id), "doc": entry.document, "update": entry.update}
            | ({} if entry.lineage is None else {"lineage": entry.lineage})
            for entry in batch
        ]
        return {
            "device": self._device,
            "entries": entries,
            "pull": {replica.name: replica.ydoc.get_state() for replica in pull},
        }

    def _settle(
        self, batch: Sequence[Entry], answer: Mapping[str, Any], pushed: Pushed, undecided: list[ClientError]
    ) -> None:
        entries = {str(entry.id): entry for entry in batch}
        durable: dict[str, list[int]] = {}
        for receipt in _objects(answer, "receipts"):
            entry = entries.pop(str(receipt.get("id")), None)
            if entry is None:
                continue
            status, code = receipt.get("status"), str(receipt.get("code") or "")
            reason = str(receipt.get("reason") or code)
            if status in ("applied", "duplicate"):
                durable.setdefault(entry.document, []).append(entry.id)
                pushed.applied += status == "applied"
                pushed.duplicate += status == "duplicate"
            elif status != "rejected":
                raise UnexpectedAnswer(f"a receipt has the unknown status {status!r}")
            elif code == _LINEAGE_DIFFERS:
                undecided.append(LineageDiffers(entry.document, reason))
            elif code in _LATER:
                undecided.append(ServerBusy(reason))
            else:
                self._reject(entry, code, reason)
                pushed.rejected += 1
        for document, ids in durable.items():
            replica = self._replicas.get(document)
            if replica is not None:
                replica.confirm(ids)
            else:
                self._outbox.remove(ids)

    def _reject(self, entry: Entry, code: str, reason: str) -> None:
        replica = self._replicas.get(entry.document)
        if replica is not None:
            replica.reject(Rejected(entry.id, entry.document, entry.update, code, reason))
        else:
            self._outbox.reject(entry.id, code, reason)

    def _take_in(self, pull: Sequence[Replica], answer: Mapping[str, Any], undecided: list[ClientError]) -> None:
        deltas = answer.get("deltas") or {}
        if not isinstance(deltas, Mapping):
            raise UnexpectedAnswer("the answer to a push has malformed deltas")
        for replica in pull:
            delta = deltas.get(replica.name, {})
            try:
                replica.trace(delta.get("lineage"))
            except LineageDiffers as error:
                undecided.append(error)
                continue
            update = delta.get("update")
            if isinstance(update, bytes):
                replica.integrate(update)


class PushEngine:
    """Keeps one document in sync by exchanges: after edits, and now and then."""

    def __init__(self, replica: Replica, pusher: Pusher, settings: Settings) -> None:
        self._replica = replica
        self._pusher = pusher
        self._settings = settings

    async def run(self) -> None:
        """Go on until cancelled, or until `LineageDiffers`, which only the application can settle."""
        replica, settings = self._replica, self._settings
        backoff = Backoff(settings.first_delay, settings.longest_delay)
        while True:
            replica.outgoing.clear()
            try:
                await self._pusher.exchange([replica.name])
                await replica.compact(settings.compact_after)
            except ClientError as error:
                replica.show(Connection.OFFLINE, error)
                if isinstance(error, LineageDiffers):
                    return
                await asyncio.sleep(backoff.delay(error.retry_after if isinstance(error, ServerBusy) else 0.0))
                continue
            backoff.reset()
            replica.show(Connection.PUSHING)
            try:
                async with asyncio.timeout(settings.pull_interval):
                    await replica.outgoing.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(settings.gather)


def _objects(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = answer.get(name)
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise UnexpectedAnswer(f"the answer to a push lacks its {name}")
    return items
