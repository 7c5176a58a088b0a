"""The root of the error vocabulary: what bytes from outside can be guilty of."""

from __future__ import annotations

from collections.abc import Mapping


class CrdtError(Exception):
    """The root. `code` is stable and part of the outside interface; `reason` says in a sentence what is wrong."""

    code = "crdt-error"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MalformedUpdate(CrdtError):
    """Not a Yjs v1 update that every peer can take in. Sending it again never helps."""

    code = "malformed-update"


class MalformedStateVector(CrdtError):
    """Not a Yjs v1 state vector."""

    code = "malformed-state-vector"


class MalformedPresence(CrdtError):
    """Not a y-protocols awareness update, or one beyond the bounds."""

    code = "malformed-presence"


class TooManyTypes(CrdtError):
    """The document would have more nested shared types than one may have. `limit` says how many."""

    code = "too-many-types"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the document would have more than {limit} nested shared types; use a second document")
        self.limit = limit


class TooManyParts(CrdtError):
    """The update has more structs, deleted ranges and values than everybody else should wait for. `limit` says how many."""

    code = "too-many-parts"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the update has more than {limit} structs, deleted ranges and values; send it as several updates")
        self.limit = limit


class TooManyClients(CrdtError):
    """The document would know more client ids than one may. `limit` says how many."""

    code = "too-many-clients"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the document would have edits of more than {limit} client ids; go on in a second document")
        self.limit = limit


class TooManyCuts(CrdtError):
    """The update cuts a character in two, which costs as much as the whole document; it can be taken a moment later."""

    code = "too-many-cuts"

    def __init__(self) -> None:
        super().__init__("the update cuts a character in two, and others did just before; send it again in a moment")


class MissingCauses(CrdtError):
    """The update builds on edits that the document has not seen; it can be applied once they have arrived.

    `missing` gives, for each client id, the clock that the document must have reached first.
    """

    code = "missing-causes"

    def __init__(self, missing: Mapping[int, int]) -> None:
        super().__init__(f"the update builds on edits of {len(missing)} client(s) that the document has not seen")
        self.missing = dict(missing)
