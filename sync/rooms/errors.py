"""What can go wrong between a room and its store. Codes are stable and part of the outside interface."""

from __future__ import annotations


class RoomError(Exception):
    """The root. `code` is stable; `reason` says in a sentence what happened and what to do."""

    code = "room-error"
    transient = False
    """Whether the same again later is likely to succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreUnavailable(RoomError):
    """The store cannot be read or written just now. Trying again later is right."""

    code = "store-unavailable"
    transient = True


class StoreCorrupted(RoomError):
    """The store answered, but what it holds is not a whole log. Trying again does not help."""

    code = "store-corrupted"

    def __init__(self, document: str, reason: str) -> None:
        super().__init__(reason)
        self.document = document


class DocumentUnreadable(RoomError):
    """The document could not be loaded from what the store holds. It is not replaced by a blank one."""

    code = "document-unreadable"


class DocumentTooLarge(RoomError):
    """The edit would take the document over its limit. The document is as it was."""

    code = "document-too-large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the document may hold {limit} bytes at most; remove content or start another document")
        self.limit = limit


class UpdateTooLarge(RoomError):
    """One update is over the limit."""

    code = "update-too-large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the update has {size} bytes and {limit} are allowed; send it in parts")
        self.size = size
        self.limit = limit


class Forbidden(RoomError):
    """The account may not do this to the document."""

    code = "forbidden"


class LineageDiffers(RoomError):
    """The client's copy descends from another document of the same name. Its edits must not be mixed into this one."""

    code = "lineage-differs"

    def __init__(self, lineage: str) -> None:
        super().__init__(
            "the document was made anew since this copy was taken; keep the unsynced edits and open the document afresh"
        )
        self.lineage = lineage


class Overloaded(RoomError):
    """The node has as much work as its limits allow. Trying again later is right."""

    code = "overloaded"
    transient = True


class AnswerFull(RoomError):
    """What was asked for is more than one answer holds. It is given to whoever asks for it alone, or with less."""

    code = "answer-full"


class ShuttingDown(RoomError):
    """The node stops. Whoever connects again reaches another node, or this one started anew."""

    code = "shutting-down"
    transient = True


class PeerIncoherent(RoomError):
    """A peer keeps sending updates whose causes it never delivers."""

    code = "causes-never-delivered"
