"""What access control tells a client besides what is wrong with its token. Codes are stable."""

from __future__ import annotations


class AccessError(Exception):
    """The root. `code` is stable; `reason` says in a sentence what happened and what to do."""

    code = "access-error"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RateLimited(AccessError):
    """One account, or one address, did more in a minute than it may: `limit` of `what`. Again in `retry_after` seconds."""

    code = "rate-limited"

    def __init__(self, what: str, limit: int, retry_after: int) -> None:
        super().__init__(f"more than {limit} {what} in a minute; come back in {retry_after} s")
        self.limit = limit
        self.retry_after = retry_after


class RevocationsFull(AccessError):
    """The list of revocations has `limit` entries, and nothing was revoked. None is dropped to make room."""

    code = "revocations-full"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"nothing was revoked: {limit} revocations are kept already; revoke a subject in place of its tokens, or sign with "
            "another key"
        )
        self.limit = limit


class RevocationNotSpread(AccessError):
    """Revoked on this node, and not known to be kept, or to reach the others. The same request again is right."""

    code = "revocation-not-spread"

    def __init__(self, why: str) -> None:
        super().__init__(f"revoked on this node, but {why}: others may not hear of it; send the same request again")
