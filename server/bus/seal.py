"""Whose news is believed: that of nodes on the same store, and of nobody else who can reach the same Redis."""

from __future__ import annotations

import hashlib
import hmac

TAG_BYTES = 16


class NotOurs(ValueError):
    """No node on this store has sealed these bytes for this channel."""


class Seal:
    """Authenticates news with a `key` that is kept in the store, and so known to its nodes alone (keyed BLAKE2b, RFC 7693).

    What was sealed can be repeated by whoever overhears it, which news may be anyway.
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = hashlib.blake2b(b"ebbtide news" + key.encode()).digest()

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
        named = len(channel).to_bytes(4, "big") + channel + data
        return hashlib.blake2b(named, digest_size=TAG_BYTES, key=self._key).digest()
