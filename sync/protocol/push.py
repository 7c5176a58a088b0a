"""The offline queue's request and answer, `POST /api/v1/sync`: what they hold, whichever way they are written.

Every part that a client names is bounded. A body that cannot be understood as a whole is one error. An entry that is
wrong but says its id becomes a rejected receipt at its place, so that it holds up nothing behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sync.protocol.errors import BadDocumentName, BadRequest
from sync.protocol.lib0 import MAX_INTEGER
from sync.protocol.names import MAX_DOCUMENT_NAME_BYTES, check_document_name, is_name

MAX_ID_BYTES: Final = 128
MAX_DEVICE_BYTES: Final = 128
MAX_LINEAGE_BYTES: Final = 128
MAX_PULL_DOCUMENTS: Final = 1000
MAX_ENTRIES: Final = 10_000


class PushEntry(NamedTuple):
    """One edit from the queue. `id` is the client's name for it, `update` Yjs v1, not looked into here."""

    id: str
    doc: str
    lineage: str | None
    update: bytes


class Receipt(NamedTuple):
    """What became of one entry.

    `status` is `applied`, `duplicate` or `rejected`. For the first two the log holds the entry at or before number
    `seq`, durably; for the third `code` is stable and `reason` is a sentence.
    """

    id: str
    status: str
    seq: int | None = None
    code: str | None = None
    reason: str | None = None


class PushRequest(NamedTuple):
    """A request. `entries` are those to apply, in order; `rejected` has the receipts of the others, by their place.

    Ids may repeat: they are the client's own, and each entry gets its receipt at its place. `pull` maps documents to
    encoded state vectors. `since` is a cursor of the changes feed, None when the client does not follow it.
    """

    device: str
    entries: list[PushEntry]
    rejected: dict[int, Receipt]
    pull: dict[str, bytes]
    since: int | None

    def receipts(self, taken: Sequence[Receipt]) -> Iterator[Receipt]:
        """All receipts in the order of the request, given those for `entries` in their order."""
        rest = iter(taken)
        for place in range(len(self.entries) + len(self.rejected)):
            receipt = self.rejected.get(place)
            yield next(rest) if receipt is None else receipt


class Delta(NamedTuple):
    """What the client's copy of a document lacks, up to number `seq`. `lineage` is None for one that does not exist."""

    update: bytes
    seq: int
    lineage: str | None


class Refusal(NamedTuple):
    """Why a document is not given to this client."""

    code: str
    reason: str


class Changed(NamedTuple):
    """A document that has entries up to number `seq` which are newer than the client's cursor."""

    doc: str
    seq: int


class PushAnswer(NamedTuple):
    """An answer. `cursor` is the next request's `since`; `more` says that asking at once would give more changes."""

    receipts: Sequence[Receipt]
    deltas: Mapping[str, Delta | Refusal]
    changed: Sequence[Changed]
    cursor: int | None
    more: bool


def check_entry(fields: Mapping[object, object]) -> PushEntry | Receipt | None:
    """An entry to apply, the receipt of one that is not right, or None for one without an id to answer to."""
    key, doc, update, lineage = fields.get("id"), fields.get("doc"), fields.get("update"), fields.get("lineage")
    if type(key) is not str or not is_name(key, MAX_ID_BYTES):
        return None
    if type(doc) is not str or not is_name(doc, MAX_DOCUMENT_NAME_BYTES):
        error = BadDocumentName()
        return Receipt(key, "rejected", None, error.code, error.reason)
    if type(update) is not bytes:
        return Receipt(key, "rejected", None, "malformed-update", "update is not bytes (base64 in JSON)")
    if lineage is None or (type(lineage) is str and is_name(lineage, MAX_LINEAGE_BYTES)):
        return PushEntry(key, doc, lineage, update)
    reason = f"lineage is not a string of 1 to {MAX_LINEAGE_BYTES} bytes without control characters"
    return Receipt(key, "rejected", None, "bad-lineage", reason)


class Entries:
    """Gathers a request's entries: those to apply, and the receipts of those that are not right."""

    def __init__(self) -> None:
        self.accepted: list[PushEntry] = []
        self.rejected: dict[int, Receipt] = {}

    def extend(self, checked: Iterable[object]) -> None:
        """Take what `check_entry` gave, in order. Raises `BadRequest` at anything but an entry or a receipt."""
        for place, entry in enumerate(checked):
            if type(entry) is PushEntry:
                self.accepted.append(entry)
            elif type(entry) is Receipt:
                self.rejected[place] = entry
            else:
                raise BadRequest(f"entry {place} has no id of 1 to {MAX_ID_BYTES} bytes without control characters")


class Pull:
    """Gathers a request's pull: documents and state vectors."""

    def __init__(self) -> None:
        self.wanted: dict[str, bytes] = {}

    def add(self, doc: object, state_vector: object) -> None:
        """Raises `BadRequest` or `BadDocumentName`."""
        if type(doc) is not str or type(state_vector) is not bytes:
            raise BadRequest("pull is not a map from document names to state vectors (base64 in JSON)")
        if len(self.wanted) == MAX_PULL_DOCUMENTS:
            raise BadRequest(f"pull names more than {MAX_PULL_DOCUMENTS} documents")
        self.wanted[check_document_name(doc)] = state_vector


def request(device: object, entries: Entries, pull: Pull, since: object) -> PushRequest:
    """Put a request together from its parts. Raises `BadRequest`."""
    if type(device) is not str or not is_name(device, MAX_DEVICE_BYTES):
        raise BadRequest(f"device is not a string of 1 to {MAX_DEVICE_BYTES} bytes without control characters")
    if since is not None and (type(since) is not int or not 0 <= since <= MAX_INTEGER):
        raise BadRequest("since is not a cursor, an integer from 0 to 2**53 - 1")
    return PushRequest(device, entries.accepted, entries.rejected, pull.wanted, since)
