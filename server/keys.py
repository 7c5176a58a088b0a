"""Where the keys come from that tokens are signed with: one given at the start, or a JWKS address (RFC 7517)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server import config
from server.tokens import KeySource, SigningKey, TokenForged, TokenKeyUnavailable

LIFETIME = 300.0
"""Seconds after which fetched keys are fetched again."""
GRACE = 3_600.0
"""Seconds for which fetched keys are believed while their address does not answer."""
COOLDOWN = 10.0
"""Least seconds between two fetches, whatever tokens with invented key ids arrive."""

_MAX_BODY_BYTES = 256 << 10
_MAX_KEYS = 100
_RSA_BITS = range(2048, 8193)  # RFC 7518, section 3.3; above, a signature takes too long to check
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_ALGORITHMS = {"OKP Ed25519": "EdDSA", "EC P-256": "ES256", "RSA": "RS256"}

log = logging.getLogger(__name__)


def key_source(tokens: config.Tokens) -> KeySource:
    """The source that the configuration names. The caller closes it."""
    if tokens.secret is not None:
        return FixedKey(SigningKey(tokens.secret, "HS256"))
    if tokens.public_key is not None:
        return FixedKey(SigningKey(load_pem_public_key(tokens.public_key), "EdDSA"))
    if tokens.jwks_url is not None:
        return RemoteKeys(tokens.jwks_url)
    raise config.ConfigError("no source of tokens is configured")


class FixedKey:
    """One key, whatever key id a token names."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    async def key(self, key_id: str | None) -> SigningKey:  # noqa: ARG002 - the port's
        """See `KeySource.key`; raises nothing."""
        return self._key

    async def close(self) -> None:
        """See `KeySource.close`."""


class RemoteKeys:
    """The keys behind a JWKS address, fetched when a token needs them and kept for `LIFETIME`.

    A key id that the kept keys lack fetches them again, at most once in `COOLDOWN`, so a new key works soon after its
    signer turns to it. While the address is away, kept keys are believed for `GRACE`. `clock` gives monotonic seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: Mapping[str | None, SigningKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        # One fetch serves all that wait for it, and is no one's: who asked may go meanwhile.
        self._fetching: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def key(self, key_id: str | None) -> SigningKey:
        """See `KeySource.key`."""
        asked_at = self._clock()
        found = self._kept(key_id, LIFETIME)
        if found:
            return found
        if self._fetching is None and self._clock() - self._tried_at >= COOLDOWN:
            self._tried_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        if self._fetching is not None:
            await asyncio.shield(self._fetching)
        found = self._kept(key_id, GRACE)
        if found:
            return found
        if self._fetched_at >= asked_at:
            raise TokenForged("the token names a key that its signer does not publish")
        raise TokenKeyUnavailable("the keys that sign tokens cannot be fetched just now")

    async def close(self) -> None:
        """See `KeySource.close`."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        if self._session:
            await self._session.close()

    def _kept(self, key_id: str | None, age: float) -> SigningKey | None:
        if self._clock() - self._fetched_at >= age:
            return None
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        """Replace the kept keys, or keep them when the address does not answer with a set of keys."""
        try:
            keys = _usable(json.loads(await self._body()))
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("cannot fetch the keys that sign tokens", extra={"url": self._url, "error": repr(error)})
        else:
            self._keys, self._fetched_at = keys, self._tried_at
        finally:
            self._fetching = None

    async def _body(self) -> bytes:
        self._session = self._session or aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session.get(self._url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > _MAX_BODY_BYTES:
                    raise ValueError("too long for a set of keys")
            return bytes(body)


def _usable(document: Any) -> dict[str | None, SigningKey]:
    """The keys of a JWKS document that may sign tokens here, by key id. Keys for other purposes are left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ValueError("not a set of keys")
    return {_key_id(each): key for each in listed if isinstance(each, dict) and (key := _signing_key(each))}


def _key_id(data: Mapping[str, Any]) -> str | None:
    value = data.get("kid")
    return value if isinstance(value, str) else None


def _signing_key(data: Mapping[str, Any]) -> SigningKey | None:
    algorithm = _ALGORITHMS.get(f"{data.get('kty')} {data.get('crv', '')}".strip())
    for_signing = data.get("use", "sig") == "sig" and data.get("alg", algorithm) == algorithm and "d" not in data
    if algorithm is None or not for_signing:
        return None
    try:
        material = jwt.PyJWK(dict(data), algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        return None
    if isinstance(material, RSAPublicKey) and material.key_size not in _RSA_BITS:
        return None
    return SigningKey(material, algorithm)
