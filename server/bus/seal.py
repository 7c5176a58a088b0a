"""Whose news is believed: that of nodes on the same store, and of nobody else who can reach the same Redis."""

from __future__ import annotations

import hmac

TAG_BYTES = 16


class NotOurs(ValueError):
    """No node on this store has sealed these bytes for this channel."""


class Seal:
    """Authenticates news with a `key` that is kept in the store, and so known to its nodes alone (HMAC-SHA256, RFC 2104).

    What was sealed can be repeated by whoever overhears it, which news may be anyway.
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = b"ebbtide news" + key.encode()

    def put_on(self, channel: bytes, data: bytes) -> bytes:
        """`data` behind a tag that is good on this channel alone."""
        return self._tag(channel, data) + data

    def take_off(self, channel: bytes, sealed: bytes) -> bytes:
        """The data. Raises `NotOurs`."""
        data = sealed[TAG_BYTES:]
        if not hmac.compare_digest(self._tag(channel, data), sealed[:TAG_BYTES]):
            raise NotOurs("it is of no node on this store")
        return data

    def _tag(self, channel: bytes, data: bytes) -> bytes:
        # The channel's length keeps one that begins with another's name apart from it.
        return hmac.digest(self._key, len(channel).to_bytes(4, "big") + channel + data, "sha256")[:TAG_BYTES]
