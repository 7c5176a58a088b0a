"""What a token says about its bearer, and whether it may be believed.

A token is a JWT (RFC 7519) whose `documents` claim names documents and roles. The decisions are argued in
docs/design/tokens.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Protocol

import jwt

MAX_TOKEN_BYTES = 8 << 10
MAX_SUBJECT_BYTES = 200
MAX_TOKEN_ID_BYTES = 200
NOT_BEFORE_LEEWAY = 5.0
"""Seconds that a signer's clock may be ahead of ours. Expiry has no leeway: an open socket ends when the token does."""

_LAST_INSTANT = 253_402_300_799  # the end of the year 9999: what a clock and a timer can still hold


class TokenError(Exception):
    """The bearer is not let in. `code` is stable; `reason` says why without repeating anything of the token."""

    code: ClassVar[str] = "token-error"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TokenMissing(TokenError):
    """No token was given, and the server is not open."""

    code = "token-missing"


class TokenMalformed(TokenError):
    """Not a JWT, too long, or a claim lacks or has the wrong shape."""

    code = "token-malformed"


class TokenForged(TokenError):
    """Not signed, or not by the configured key with the algorithm of that key."""

    code = "token-forged"


class TokenExpired(TokenError):
    """Its time is over: the client needs a new one."""

    code = "token-expired"


class TokenRevoked(TokenError):
    """It was good, and has been withdrawn: the client needs a new one."""

    code = "token-revoked"


class TokenNotYet(TokenError):
    """Its time has not begun, or it says that it was issued in the future."""

    code = "token-not-yet"


class TokenWrongAudience(TokenError):
    """Signed for another service."""

    code = "token-wrong-audience"


class TokenWrongIssuer(TokenError):
    """Signed with the right key on behalf of another issuer."""

    code = "token-wrong-issuer"


class TokenKeyUnavailable(TokenError):
    """The key that would decide cannot be fetched just now. Trying again later is right; the token may be good."""

    code = "token-key-unavailable"


class Role(IntEnum):
    """What a bearer may do with a document; a higher role includes the lower ones."""

    VIEWER = 1
    EDITOR = 2
    OWNER = 3


_ROLES: Mapping[str, Role] = {role.name.lower(): role for role in Role}


class _Glob(NamedTuple):
    """A pattern with `*`, which stands for any characters, none included.

    Matched by hand from left to right: a regular expression with many stars can take time exponential in their number.
    """

    prefix: str
    middle: tuple[str, ...]
    suffix: str

    def matches(self, document: str) -> bool:
        start, end = len(self.prefix), len(document) - len(self.suffix)
        if start > end or not (document.startswith(self.prefix) and document.endswith(self.suffix)):
            return False
        for part in self.middle:
            start = document.find(part, start, end) + len(part)
            if start < len(part):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a token speaks for and what it grants.

    `subject` is 1 to `MAX_SUBJECT_BYTES` bytes ("" on an open server). `expires_at` is in seconds since 1970, or None
    for never; the holder of the claims sees to it that nothing is done in their name from then on, nor once they are
    revoked. `issued_at` is by the signer's clock and None where the token does not say, `token_id` is its `jti` or None.
    """

    subject: str
    expires_at: float | None
    _named: Mapping[str, Role] = field(default_factory=dict)
    _patterns: tuple[tuple[_Glob, Role], ...] = ()
    issued_at: float | None = None
    token_id: str | None = None
    admin: bool = False
    """Whether the bearer may revoke the tokens of others."""

    @classmethod
    def grant(
        cls,
        subject: str,
        expires_at: float | None,
        documents: Mapping[str, Role],
        *,
        issued_at: float | None = None,
        token_id: str | None = None,
        admin: bool = False,
    ) -> Claims:
        """Claims for names and patterns (with `*`) of documents."""
        named = {name: role for name, role in documents.items() if "*" not in name}
        patterns = ((pattern.split("*"), role) for pattern, role in documents.items() if "*" in pattern)
        return cls(
            subject,
            expires_at,
            named,
            tuple((_Glob(parts[0], tuple(parts[1:-1]), parts[-1]), role) for parts, role in patterns),
            issued_at,
            token_id,
            admin,
        )

    def role(self, document: str) -> Role | None:
        """The highest role that a name or pattern grants on `document`; None when none does."""
        role = self._named.get(document)
        for pattern, granted in self._patterns:
            if (role is None or granted > role) and pattern.matches(document):
                role = granted
        return role

    def can_read(self, document: str) -> bool:
        """Whether any role is granted on `document`."""
        return self.role(document) is not None

    def can_write(self, document: str) -> bool:
        """Whether a role from editor on is granted on `document`."""
        role = self.role(document)
        return role is not None and role >= Role.EDITOR


class TokenVerifier(Protocol):
    """Who may come in."""

    async def verify(self, token: str) -> Claims:
        """The claims of `token` ("" when the client gave none). Raises a subclass of `TokenError`.

        They hold at the moment of the return: whoever waits before using them calls `recheck`.
        """
        ...

    def recheck(self, claims: Claims) -> None:
        """Raises `TokenExpired` or `TokenRevoked` when claims that were good are so no more."""
        ...

    async def close(self) -> None:
        """Release what the verifier holds. Idempotent."""
        ...


class OpenAccess:
    """Everyone may read and write everything: `--open`."""

    _everyone = Claims.grant("", None, {"*": Role.EDITOR})

    async def verify(self, token: str) -> Claims:  # noqa: ARG002 - tokens that clients send by habit are of no interest
        """See `TokenVerifier.verify`; raises nothing."""
        return self._everyone

    def recheck(self, claims: Claims) -> None:
        """See `TokenVerifier.recheck`; raises nothing."""

    async def close(self) -> None:
        """See `TokenVerifier.close`."""


class SigningKey(NamedTuple):
    """A key as `jwt` takes it, and the one algorithm that it may be used with."""

    material: Any
    algorithm: str


class KeySource(Protocol):
    """The keys that tokens are signed with."""

    async def key(self, key_id: str | None) -> SigningKey:
        """The key for a token with this `kid`. Raises `TokenForged` (there is no such key) or `TokenKeyUnavailable`."""
        ...

    async def close(self) -> None:
        """Release what the source holds. Idempotent."""
        ...


class SignedTokens:
    """Believes tokens that a key of `keys` signed, that `revoked` raises no `TokenRevoked` for, and that live no longer
    than `longest` seconds where that is given. `now` gives seconds since 1970.
    """

    def __init__(
        self,
        keys: KeySource,
        revoked: Callable[[Claims], None],
        *,
        issuer: str | None = None,
        audience: str | None = None,
        longest: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._revoked = revoked
        self._issuer = issuer
        self._audience = audience
        self._longest = longest
        self._now = now

    async def verify(self, token: str) -> Claims:
        """See `TokenVerifier.verify`."""
        if not token:
            raise TokenMissing("a token is needed: as a bearer, or as ?token= on a WebSocket")
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise TokenMalformed(f"a token is a JWT of at most {MAX_TOKEN_BYTES} bytes")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise TokenMalformed("this is not a JWT") from None
        key = await self._keys.key(header.get("kid"))
        payload = self._believed(token, key)
        expires_at = _instant(payload, "exp")
        issued_at = _instant(payload, "iat") if "iat" in payload else None
        latest = self._now() + NOT_BEFORE_LEEWAY
        if "nbf" in payload and latest < _instant(payload, "nbf"):
            raise TokenNotYet("the token is not valid yet")
        if issued_at is not None and latest < issued_at:
            # It would outlast a revocation of all that was issued until now.
            raise TokenNotYet("the token says that it was issued in the future; mend its signer's clock")
        self._check_life(issued_at, expires_at)
        claims = Claims.grant(
            _text(payload, "sub", MAX_SUBJECT_BYTES),
            expires_at,
            _documents(payload),
            issued_at=issued_at,
            token_id=_text(payload, "jti", MAX_TOKEN_ID_BYTES) if "jti" in payload else None,
            admin=payload.get("admin") is True,
        )
        self.recheck(claims)
        return claims

    def recheck(self, claims: Claims) -> None:
        """See `TokenVerifier.recheck`."""
        if claims.expires_at is not None and self._now() >= claims.expires_at:
            raise TokenExpired("the token has expired; get a new one")
        self._revoked(claims)

    async def close(self) -> None:
        """See `TokenVerifier.close`."""
        await self._keys.close()

    def _check_life(self, issued_at: float | None, expires_at: float) -> None:
        if self._longest is None:
            return
        if issued_at is None:
            raise TokenMalformed("the token has to say when it was issued (iat), since this server bounds the life of tokens")
        if expires_at - issued_at > self._longest:
            raise TokenMalformed(f"the token lives longer than {self._longest / 3600:g} hours, which are the most allowed here")

    def _believed(self, token: str, key: SigningKey) -> dict[str, Any]:
        # The algorithm comes from the key, never from the token (RFC 8725, section 3.1). The times are checked by the
        # caller, since they have different leeways.
        try:
            return jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidSignatureError:
            raise TokenForged("the token is not signed with this server's key") from None
        except (jwt.InvalidAlgorithmError, jwt.InvalidKeyError):
            raise TokenForged(f"the token is not signed with {key.algorithm}") from None
        except jwt.InvalidAudienceError:
            raise TokenWrongAudience("the token is for another service (aud)") from None
        except jwt.InvalidIssuerError:
            raise TokenWrongIssuer("the token is from another issuer (iss)") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenMalformed(f"the token lacks the claim {error.claim}") from None
        except jwt.InvalidTokenError:
            raise TokenMalformed("the token's claims are malformed") from None


def _instant(payload: Mapping[str, Any], claim: str) -> float:
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_INSTANT:
        raise TokenMalformed(f"the token's {claim} has to be a number of seconds since 1970")
    return float(value)


def _text(payload: Mapping[str, Any], claim: str, most: int) -> str:
    value = payload.get(claim)
    if not isinstance(value, str) or not is_name(value, most):
        raise TokenMalformed(f"the token's {claim} has to be a text of 1 to {most} bytes without control characters")
    return value


def is_name(text: str, most: int) -> bool:
    """Whether `text` can name an account or a token: 1 to `most` bytes of UTF-8 that can be printed.

    Names are compared code point by code point; nothing is normalised.
    """
    return text.isprintable() and 1 <= len(text.encode()) <= most


def _documents(payload: Mapping[str, Any]) -> dict[str, Role]:
    value = payload.get("documents", {})
    if not isinstance(value, dict):
        raise TokenMalformed("the token's documents have to be an object from names or patterns to roles")
    roles = {name: _ROLES.get(role) if isinstance(role, str) else None for name, role in value.items()}
    granted = {name: role for name, role in roles.items() if name and role}
    if len(granted) < len(roles):
        raise TokenMalformed(f"the token's documents have to give names the roles {', '.join(_ROLES)}")
    return granted
