from __future__ import annotations

import hmac
import time
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from server.config import Tokens
from server.keys import key_source
from server.tokens import (
    MAX_SUBJECT_BYTES,
    MAX_TOKEN_BYTES,
    MAX_TOKEN_ID_BYTES,
    NOT_BEFORE_LEEWAY,
    Claims,
    OpenAccess,
    Role,
    SignedTokens,
    TokenError,
    TokenExpired,
    TokenForged,
    TokenMalformed,
    TokenMissing,
    TokenNotYet,
    TokenRevoked,
    TokenWrongAudience,
    TokenWrongIssuer,
)

SECRET = b"0123456789abcdef" * 2
NOW = 1_800_000_000.0


def nobody(claims: Claims) -> None:
    """Nobody's token is revoked."""


def verifier(**options: Any) -> SignedTokens:
    return SignedTokens(key_source(Tokens(secret=SECRET)), options.pop("revoked", nobody), now=lambda: NOW, **options)


def token(key: Any = SECRET, algorithm: str = "HS256", without: str = "", **claims: Any) -> str:
    payload = {"sub": "ada", "exp": NOW + 60, "documents": {"notes": "editor"}} | claims
    payload.pop(without, None)
    return jwt.encode(payload, key, algorithm)


def confused(public_key: bytes) -> str:
    """A token signed by HS256 with a public key for its secret; `jwt` itself refuses to make one."""
    header, payload = (base64url_encode(part).decode() for part in (b'{"alg":"HS256"}', b'{"sub":"eve","exp":4000000000}'))
    signature = hmac.digest(public_key, f"{header}.{payload}".encode(), "sha256")
    return f"{header}.{payload}.{base64url_encode(signature).decode()}"


def signed(payload: bytes) -> str:
    """A token over these bytes, also such that `jwt` itself refuses to sign."""
    return jwt.PyJWS().encode(payload, SECRET, "HS256")


async def test_a_good_token_names_its_bearer_and_what_they_may_do() -> None:
    claims = await verifier().verify(token(documents={"notes": "editor", "team/*": "viewer"}))
    assert (claims.subject, claims.expires_at) == ("ada", NOW + 60)
    assert claims.role("notes") is Role.EDITOR
    assert claims.can_read("team/plan")
    assert not claims.can_write("team/plan")
    assert not claims.can_read("else")


async def test_a_token_signed_with_the_private_half_of_the_key_file_is_believed() -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    verify = SignedTokens(key_source(Tokens(public_key=pem)), nobody, now=lambda: NOW).verify
    assert (await verify(token(key, "EdDSA"))).subject == "ada"
    with pytest.raises(TokenForged):
        await verify(token(Ed25519PrivateKey.generate(), "EdDSA"))
    # A public key is public: whoever has it must not be able to sign with it as if it were a shared secret.
    with pytest.raises(TokenForged):
        await verify(confused(pem))


@pytest.mark.parametrize(
    ("given_token", "error"),
    [
        ("", TokenMissing),
        ("a.b.c", TokenMalformed),
        ("no dots", TokenMalformed),
        ("ä" * 20, TokenMalformed),
        ("\ud800", TokenMalformed),
        ("a" * (MAX_TOKEN_BYTES + 1), TokenMalformed),
        (token(b"another secret of thirty-two bytes"), TokenForged),
        (token(None, "none"), TokenForged),
        (token(SECRET * 2, "HS512"), TokenForged),
        (token()[:-4] + "AAAA", TokenForged),
        (token(exp=NOW), TokenExpired),
        (token(exp=NOW - 1), TokenExpired),
        (token(without="exp"), TokenMalformed),
        (token(exp="tomorrow"), TokenMalformed),
        (token(exp=True), TokenMalformed),
        (token(exp=float("nan")), TokenMalformed),
        (token(exp=float("inf")), TokenMalformed),
        (token(exp=10**30), TokenMalformed),
        (token(nbf=NOW + NOT_BEFORE_LEEWAY + 1), TokenNotYet),
        (token(nbf=[]), TokenMalformed),
        (token(iat=NOW + NOT_BEFORE_LEEWAY + 1), TokenNotYet),
        (token(iat=None), TokenMalformed),
        (token(iat=True), TokenMalformed),
        (token(iat=str(NOW)), TokenMalformed),
        (token(iat=float("nan")), TokenMalformed),
        (token(iat=float("-inf")), TokenMalformed),
        (token(jti=""), TokenMalformed),
        (token(jti="a\x00"), TokenMalformed),
        (token(jti="x" * (MAX_TOKEN_ID_BYTES + 1)), TokenMalformed),
        (signed(b'{"sub":"ada","exp":4000000000,"jti":7}'), TokenMalformed),
        (signed(b'{"sub":"ada","exp":4000000000,"jti":null}'), TokenMalformed),
        (signed(b'{"sub":"ada","exp":4000000000,"jti":"\\ud800"}'), TokenMalformed),
        (token(without="sub"), TokenMalformed),
        (token(sub=""), TokenMalformed),
        (token(sub=7), TokenMalformed),
        (token(sub="a\nb"), TokenMalformed),
        (token(sub="ä" * (MAX_SUBJECT_BYTES // 2 + 1)), TokenMalformed),
        (token(aud="another"), TokenWrongAudience),
        (token(documents=["notes"]), TokenMalformed),
        (token(documents={"notes": "king"}), TokenMalformed),
        (token(documents={"notes": ["editor"]}), TokenMalformed),
        (token(documents={"": "editor"}), TokenMalformed),
    ],
)
async def test_a_bad_token_is_refused_for_its_own_reason(given_token: str, error: type[TokenError]) -> None:
    with pytest.raises(TokenError) as caught:
        await verifier().verify(given_token)
    assert type(caught.value) is error
    assert not given_token or given_token not in caught.value.reason


async def test_a_signer_s_clock_may_be_a_little_ahead() -> None:
    assert (await verifier().verify(token(nbf=NOW + NOT_BEFORE_LEEWAY, iat=NOW + NOT_BEFORE_LEEWAY))).subject == "ada"


async def test_audience_and_issuer_are_checked_when_configured() -> None:
    verify = verifier(audience="ebbtide", issuer="https://id.example").verify
    assert (await verify(token(aud=["else", "ebbtide"], iss="https://id.example"))).subject == "ada"
    with pytest.raises(TokenWrongAudience):
        await verify(token(aud="else", iss="https://id.example"))
    with pytest.raises(TokenWrongIssuer):
        await verify(token(aud="ebbtide", iss="https://evil.example"))
    with pytest.raises(TokenMalformed, match="aud"):
        await verify(token(iss="https://id.example"))


async def test_a_token_without_documents_opens_none() -> None:
    claims = await verifier().verify(token(without="documents"))
    assert claims.role("notes") is None


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
@example("eyJhbGciOiJIUzI1NiJ9.e30.")
async def test_whatever_is_sent_is_refused_by_name(text: str) -> None:
    with pytest.raises(TokenError):
        await verifier().verify(text)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "documents"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
async def test_whatever_is_signed_is_taken_or_refused_by_name(claims: dict[str, Any]) -> None:
    signed = jwt.PyJWS().encode(jwt.PyJWT()._encode_payload({"sub": "ada", "exp": NOW + 60} | claims), SECRET, "HS256")
    with suppress(TokenError):
        assert (await verifier().verify(signed)).subject


@pytest.mark.parametrize(
    ("pattern", "document", "matches"),
    [
        ("*", "", True),
        ("*", "anything/at all", True),
        ("team/*", "team/", True),
        ("team/*", "team", False),
        ("*/plan", "a/b/plan", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "a--b--c", True),
        ("a*b*c", "acb", False),
        ("aa*aa", "aaa", False),
        ("a**b", "ab", True),
        ("a*bc*c", "abc", False),
        ("notes?", "notes1", False),
        ("[ab]*", "a", False),
        ("ü*", "über", True),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, document: str, matches: bool) -> None:
    assert Claims.grant("ada", None, {pattern: Role.VIEWER}).can_read(document) is matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_matching_agrees_with_its_definition(pattern: str, document: str) -> None:
    def defined(rest: str, text: str) -> bool:
        if not rest:
            return not text
        if rest[0] == "*":
            return any(defined(rest[1:], text[index:]) for index in range(len(text) + 1))
        return text[:1] == rest[0] and defined(rest[1:], text[1:])

    assert Claims.grant("ada", None, {pattern: Role.VIEWER}).can_read(document) is defined(pattern, document)


def test_the_highest_role_wins_whatever_the_order() -> None:
    grants = {"a*": Role.VIEWER, "ab": Role.EDITOR, "*b": Role.OWNER}
    for documents in (grants, dict(reversed(grants.items()))):
        claims = Claims.grant("ada", None, documents)
        assert [claims.role(name) for name in ("a", "ab", "b", "c")] == [Role.VIEWER, Role.OWNER, Role.OWNER, None]


async def test_an_open_server_lets_everyone_write() -> None:
    claims = await OpenAccess().verify("")
    assert (claims.subject, claims.expires_at) == ("", None)
    assert claims.can_write("anything")
    assert claims.role("anything") is Role.EDITOR


async def test_the_clock_is_the_system_s_unless_given() -> None:
    verify = SignedTokens(key_source(Tokens(secret=SECRET)), nobody).verify
    assert (await verify(token(exp=time.time() + 60))).subject == "ada"
    with pytest.raises(TokenExpired):
        await verify(token(exp=time.time() - 1))


@pytest.mark.parametrize(
    ("claim", "admin"), [(True, True), (False, False), (1, False), ("true", False), ([True], False), (None, False)]
)
async def test_nothing_but_true_makes_an_admin(claim: object, admin: bool) -> None:
    assert (await verifier().verify(token(admin=claim))).admin is admin
    assert not (await verifier().verify(token())).admin


async def test_what_was_revoked_is_refused_when_verified_and_when_checked_again() -> None:
    revoked: set[str | None] = set()

    def check(claims: Claims) -> None:
        if claims.token_id in revoked:
            raise TokenRevoked("revoked")

    tokens = verifier(revoked=check)
    claims = await tokens.verify(token(jti="7"))
    tokens.recheck(claims)
    revoked.add("7")
    with pytest.raises(TokenRevoked):
        tokens.recheck(claims)
    with pytest.raises(TokenRevoked):
        await tokens.verify(token(jti="7"))
    assert (await tokens.verify(token(jti="8"))).token_id == "8"


async def test_checked_again_a_token_may_have_expired() -> None:
    with pytest.raises(TokenExpired):
        verifier().recheck(Claims.grant("ada", NOW, {}))


async def test_the_life_of_tokens_is_bounded_where_that_is_asked_for() -> None:
    verify = verifier(longest=3600.0).verify
    assert (await verify(token(iat=NOW - 10, exp=NOW + 3590))).issued_at == NOW - 10
    with pytest.raises(TokenMalformed, match="longer than 1 hours"):
        await verify(token(iat=NOW - 10, exp=NOW + 3591))
    with pytest.raises(TokenMalformed, match="iat"):
        await verify(token())
