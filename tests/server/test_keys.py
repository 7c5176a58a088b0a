from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from server.keys import COOLDOWN, GRACE, LIFETIME, RemoteKeys
from server.tokens import SignedTokens, TokenForged, TokenKeyUnavailable, TokenMalformed

Key = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def jwk(key: Key, key_id: str, **extra: Any) -> dict[str, Any]:
    public = key.public_key()
    data: dict[str, Any]
    if isinstance(public, rsa.RSAPublicKey):
        data = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        data = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        data = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {name: value for name, value in data.items() if name != "key_ops"} | {"kid": key_id} | extra


def token(key: Any, algorithm: str, key_id: str | None) -> str:
    claims = {"sub": "ada", "exp": 4_000_000_000}
    return jwt.encode(claims, key, algorithm, headers={"kid": key_id} if key_id else None)


class Signer:
    """An identity provider on loopback: a real HTTP server, and the time that its client believes it is."""

    def __init__(self) -> None:
        self.body: bytes = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.fetches = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.now = 0.0
        self.url = ""

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    async def answer(self, _: web.Request) -> web.Response:
        self.fetches += 1
        await self.answers.wait()
        return web.Response(body=self.body, status=self.status, headers=self.headers)


@pytest.fixture
async def signer() -> AsyncIterator[Signer]:
    signer = Signer()
    app = web.Application()
    app.router.add_get("/keys", signer.answer)
    async with TestServer(app) as server:
        signer.url = str(server.make_url("/keys"))
        yield signer


@pytest.fixture
async def verifier(signer: Signer) -> AsyncIterator[SignedTokens]:
    verifier = SignedTokens(RemoteKeys(signer.url, clock=lambda: signer.now), lambda claims: None)
    yield verifier
    await verifier.close()


ED25519 = Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(("key", "algorithm"), [(ED25519, "EdDSA"), (P256, "ES256"), (RSA, "RS256")])
async def test_each_kind_of_key_signs_with_its_own_algorithm(
    signer: Signer, verifier: SignedTokens, key: Key, algorithm: str
) -> None:
    signer.publish(jwk(ED25519, "EdDSA"), jwk(P256, "ES256"), jwk(RSA, "RS256"))
    assert (await verifier.verify(token(key, algorithm, algorithm))).subject == "ada"
    with pytest.raises(TokenForged):
        await verifier.verify(token(b"0123456789abcdef" * 4, "HS256", algorithm))


async def test_keys_are_fetched_once_and_again_after_their_lifetime(signer: Signer, verifier: SignedTokens) -> None:
    signer.publish(jwk(ED25519, "a"))
    for _ in range(3):
        await verifier.verify(token(ED25519, "EdDSA", "a"))
    assert signer.fetches == 1
    signer.now += LIFETIME
    await verifier.verify(token(ED25519, "EdDSA", "a"))
    assert signer.fetches == 2


async def test_a_new_key_is_fetched_when_it_is_first_used(signer: Signer, verifier: SignedTokens) -> None:
    signer.publish(jwk(ED25519, "old"))
    await verifier.verify(token(ED25519, "EdDSA", "old"))
    signer.publish(jwk(ED25519, "old"), jwk(P256, "new"))
    signer.now += COOLDOWN
    assert (await verifier.verify(token(P256, "ES256", "new"))).subject == "ada"
    assert signer.fetches == 2


async def test_invented_key_ids_do_not_make_us_fetch_at_their_pace(signer: Signer, verifier: SignedTokens) -> None:
    signer.publish(jwk(ED25519, "a"))
    with pytest.raises(TokenForged):
        await verifier.verify(token(P256, "ES256", "b"))
    signer.now += 1
    for number in range(20):
        with pytest.raises(TokenKeyUnavailable):
            await verifier.verify(token(P256, "ES256", f"invented-{number}"))
    assert signer.fetches == 1
    assert (await verifier.verify(token(ED25519, "EdDSA", "a"))).subject == "ada"


async def test_a_key_that_is_no_longer_published_is_no_longer_believed(signer: Signer, verifier: SignedTokens) -> None:
    signer.publish(jwk(ED25519, "a"), jwk(P256, "b"))
    await verifier.verify(token(ED25519, "EdDSA", "a"))
    signer.publish(jwk(P256, "b"))
    signer.now += LIFETIME
    with pytest.raises(TokenForged):
        await verifier.verify(token(ED25519, "EdDSA", "a"))


async def test_kept_keys_outlast_a_signer_that_is_away_for_a_while(signer: Signer, verifier: SignedTokens) -> None:
    signer.publish(jwk(ED25519, "a"))
    await verifier.verify(token(ED25519, "EdDSA", "a"))
    signer.status = 500
    signer.now += LIFETIME
    assert (await verifier.verify(token(ED25519, "EdDSA", "a"))).subject == "ada"
    signer.now += GRACE
    with pytest.raises(TokenKeyUnavailable):
        await verifier.verify(token(ED25519, "EdDSA", "a"))
    signer.status = 200
    signer.now += COOLDOWN
    assert (await verifier.verify(token(ED25519, "EdDSA", "a"))).subject == "ada"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (404, {}, b"{}"),
        (302, {"Location": "/keys"}, b""),
        (200, {}, b"not JSON"),
        (200, {}, b"\xff"),
        (200, {}, b"[]"),
        (200, {}, b'{"keys": 1}'),
        (200, {}, json.dumps({"keys": [{}] * 101}).encode()),
        (200, {}, b"[" * 200_000),
        (200, {}, b" " * 300_000 + b'{"keys": []}'),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    ],
)
async def test_what_is_no_set_of_keys_is_not_believed(
    signer: Signer, verifier: SignedTokens, status: int, headers: dict[str, str], body: bytes
) -> None:
    signer.status, signer.headers, signer.body = status, headers, body
    with pytest.raises(TokenKeyUnavailable):
        await verifier.verify(token(ED25519, "EdDSA", "a"))
    assert signer.fetches == 1


async def test_a_signer_that_is_not_there_is_no_reason_to_fail_otherwise(signer: Signer) -> None:
    verifier = SignedTokens(RemoteKeys("http://127.0.0.1:1/keys"), lambda claims: None)
    with pytest.raises(TokenKeyUnavailable):
        await verifier.verify(token(ED25519, "EdDSA", "a"))
    await verifier.close()


@pytest.mark.parametrize(
    "useless",
    [
        {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "kid": "a"},
        jwk(ED25519, "a", use="enc"),
        jwk(ED25519, "a", alg="HS256"),
        jwk(ED25519, "a", x="AAAA"),
        jwk(ED25519, "a", x=7),
        jwk(ED25519, "a", crv=["Ed25519"]),
        jwk(ec.generate_private_key(ec.SECP384R1()), "a"),
        jwk(rsa.generate_private_key(65537, 1024), "a"),
        {**OKPAlgorithm.to_jwk(ED25519, as_dict=True), "kid": "a"},
        {"kid": "a"},
        7,
    ],
)
async def test_keys_for_other_purposes_are_left_out(signer: Signer, verifier: SignedTokens, useless: Any) -> None:
    signer.publish(useless, jwk(P256, "b"))
    assert (await verifier.verify(token(P256, "ES256", "b"))).subject == "ada"
    signer.now += COOLDOWN
    with pytest.raises(TokenForged):
        await verifier.verify(token(ED25519, "EdDSA", "a"))


async def test_a_token_without_key_id_is_for_the_only_key(signer: Signer, verifier: SignedTokens) -> None:
    signer.publish(jwk(ED25519, "a"))
    assert (await verifier.verify(token(ED25519, "EdDSA", None))).subject == "ada"
    signer.publish(jwk(ED25519, "a"), jwk(P256, "b"))
    signer.now += LIFETIME
    with pytest.raises(TokenForged):
        await verifier.verify(token(ED25519, "EdDSA", None))


async def test_a_malformed_token_fetches_nothing(signer: Signer, verifier: SignedTokens) -> None:
    with pytest.raises(TokenMalformed):
        await verifier.verify("a.b.c")
    assert signer.fetches == 0


async def test_who_asked_for_the_keys_may_go_and_others_get_them(signer: Signer, verifier: SignedTokens) -> None:
    """Else whoever hangs up at once would keep everybody out until the next fetch."""
    signer.publish(jwk(ED25519, "a"))
    signer.answers.clear()
    first, second = (asyncio.ensure_future(verifier.verify(token(ED25519, "EdDSA", "a"))) for _ in range(2))
    while not signer.fetches:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    signer.answers.set()
    assert (await second).subject == "ada"
    assert signer.fetches == 1
