"""The offline queue's way to the server: batches over HTTP, receipts, and what others wrote in return."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pycrdt import merge_updates

from ebbtide_client.endpoint import Endpoint
from ebbtide_client.errors import AccessDenied, ClientError, LineageDiffers, Refused, ServerBusy, UnexpectedAnswer
from ebbtide_client.outbox import Entry, Outbox
from ebbtide_client.replica import Replica
from ebbtide_client.settings import Settings
from ebbtide_client.status import Rejected

_ABOUT_THE_SERVER = frozenset({"store-unavailable", "store-corrupted", "document-unreadable", "overloaded", "room-error"})
"""Codes of receipts that hold nothing against the entry: it stays in the outbox."""


@dataclass(slots=True)
class Pushed:
    """What became of the entries of one exchange."""

    requests: int = 0
    applied: int = 0
    duplicate: int = 0
    rejected: int = 0


class Exchanges:
    """Sends the outbox and takes in what others wrote. `replicas` are the open documents, by name."""

    def __init__(
        self, endpoint: Endpoint, outbox: Outbox, replicas: Mapping[str, Replica], device: str, settings: Settings
    ) -> None:
        self._endpoint = endpoint
        self._outbox = outbox
        self._replicas = replicas
        self._device = device
        self._settings = settings

    async def run(self, documents: Collection[str], at_most: int | None = None) -> Pushed:
        """Push what the outbox has of these documents, in order, then pull those of them that are open.

        `at_most` bounds the entries that are pushed. Returns once each of them is durable or rejected. Raises what
        `Endpoint.sync` does; `ServerBusy`, `AccessDenied`, `Refused` or `LineageDiffers`, after everything else was
        seen to, when the answer says so of one document.
        """
        exchange = _Exchange(self._outbox, self._replicas)
        largest = self._settings.batch_entries
        left = sys.maxsize if at_most is None else at_most
        wanted = [name for name in documents if name in self._replicas]
        after, more = 0, True
        while more or wanted:
            batch = self._outbox.pending(documents, after, min(largest, left), self._settings.batch_bytes)
            more = 0 < len(batch) < left and bool(self._outbox.pending(documents, batch[-1].id, 1, 0))
            group = [] if more else wanted[: self._settings.batch_documents]
            # Documents may have been closed meanwhile.
            pull = [self._replicas[name] for name in group if name in self._replicas]
            try:
                answer = await self._endpoint.sync(self._request(batch, pull))
            except Refused as error:
                if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or not batch:
                    raise
                more = True
                if len(batch) > 1:
                    largest = len(batch) // 2
                    continue
                exchange.reject(batch[0], error.problem or "update-too-large", error.reason)
            else:
                repeat_from = exchange.settle(batch, answer)
                if repeat_from is not None:
                    after, more = repeat_from - 1, True
                    continue
                wanted[: len(group)] = exchange.take_in(pull, answer)
            if batch:
                after = batch[-1].id
                left -= len(batch)
        for problem in exchange.problems:
            if isinstance(problem, AccessDenied):
                self._endpoint.forget_token()
            raise problem
        return exchange.pushed

    def _request(self, batch: Sequence[Entry], pull: Sequence[Replica]) -> dict[str, Any]:
        entries = [
            {"id": str(entry.id), "doc": entry.document, "update": entry.update, "lineage": entry.lineage} for entry in batch
        ]
        return {
            "device": self._device,
            "entries": entries,
            "pull": {replica.name: replica.ydoc.get_state() for replica in pull},
        }


class _Exchange:
    """What one run learns from the answers."""

    def __init__(self, outbox: Outbox, replicas: Mapping[str, Replica]) -> None:
        self.pushed = Pushed()
        self.problems: list[ClientError] = []
        self._outbox = outbox
        self._replicas = replicas
        self._whole: set[str] = set()
        """Documents of which all was put into the outbox for this exchange."""
        self._brought_back: dict[str, bytes] = {}

    def settle(self, batch: Sequence[Entry], answer: Mapping[str, Any]) -> int | None:
        """Go by the receipts. Returns the id of an entry from which on to send again, if there is one."""
        self.pushed.requests += 1
        receipts = answer.get("receipts")
        if not isinstance(receipts, list) or len(receipts) != len(batch):
            raise UnexpectedAnswer("the answer to a push does not have a receipt for each entry")
        settled: dict[str, list[int]] = {}
        widened: dict[str, int] = {}
        for entry, receipt in zip(batch, receipts, strict=True):
            if not isinstance(receipt, Mapping) or receipt.get("id") != str(entry.id):
                raise UnexpectedAnswer("a receipt is not for the entry at its place")
            status, code = receipt.get("status"), str(receipt.get("code") or "")
            reason = str(receipt.get("reason") or code)
            if status in ("applied", "duplicate"):
                settled.setdefault(entry.document, []).append(entry.id)
                self.pushed.applied += status == "applied"
                self.pushed.duplicate += status == "duplicate"
            elif status != "rejected":
                raise UnexpectedAnswer(f"a receipt has the unknown status {status!r}")
            elif code == LineageDiffers.code:
                self.problems.append(LineageDiffers(entry.document, reason))
            elif code in _ABOUT_THE_SERVER:
                self.problems.append(ServerBusy(reason))
            elif code == "forbidden" and entry.update == self._brought_back.get(entry.document):
                # A reader's copy is not taken, which is no edit that anybody made.
                settled.setdefault(entry.document, []).append(entry.id)
            elif code == "missing-causes" and (entry.document in widened or self._widen(entry)):
                widened.setdefault(entry.document, entry.id)
            else:
                self.reject(entry, code, reason)
        for document, ids in settled.items():
            replica = self._replicas.get(document)
            if replica is not None:
                replica.confirm(ids)
            else:
                self._outbox.remove(ids)
        return min(widened.values(), default=None)

    def _widen(self, entry: Entry) -> bool:
        """Let the entry carry the whole document: the server lost what it builds on, as after a backup was restored.

        Not where something of the document was rejected, which would be sent again with the rest.
        """
        replica = self._replicas.get(entry.document)
        if replica is None or replica.status.rejected or entry.document in self._whole:
            return False
        self._whole.add(entry.document)
        self._outbox.replace(entry.id, merge_updates(replica.ydoc.get_update(), entry.update))
        return True

    def _bring_back(self, replica: Replica) -> bool:
        """Whether the server has lost the document, and gets it from here; see `_widen` for the exception."""
        if replica.lineage is None or replica.status.rejected or replica.name in self._whole:
            return False
        self._whole.add(replica.name)
        self._brought_back[replica.name] = replica.bring_back()
        return True

    def reject(self, entry: Entry, code: str, reason: str) -> None:
        """Set an entry aside where the application can see it."""
        self.pushed.rejected += 1
        replica = self._replicas.get(entry.document)
        if replica is not None:
            replica.reject(Rejected(entry.id, entry.document, entry.update, code, reason))
        else:
            self._outbox.reject(entry.id, code, reason)

    def take_in(self, pull: Sequence[Replica], answer: Mapping[str, Any]) -> list[str]:
        """Go by the deltas. Returns the documents to ask for again: where the answer had no room, which it has for the first,
        and where the server has lost a document, which is now in the outbox."""
        left: list[str] = []
        deltas = answer.get("deltas")
        for replica in pull:
            delta = deltas.get(replica.name) if isinstance(deltas, Mapping) else None
            if not isinstance(delta, Mapping):
                raise UnexpectedAnswer("the answer to a push lacks a delta that was asked for")
            update, lineage, code = delta.get("update"), delta.get("lineage"), delta.get("code")
            reason = str(delta.get("reason") or code)
            if isinstance(update, bytes) and isinstance(lineage, str | None):
                try:
                    replica.trace(lineage)
                    replica.integrate(update)
                except LineageDiffers as error:
                    self.problems.append(error)
                if lineage is None and self._bring_back(replica):
                    left.append(replica.name)
            elif not isinstance(code, str):
                raise UnexpectedAnswer("a delta in the answer to a push is neither an update nor a refusal")
            elif code == "answer-full" and replica is not pull[0]:
                left.append(replica.name)
            elif code == "forbidden":
                self.problems.append(AccessDenied(reason))
            elif code in _ABOUT_THE_SERVER:
                self.problems.append(ServerBusy(reason))
            else:
                self.problems.append(Refused(reason, HTTPStatus.OK, code))
        return left
