"""Pushes with bad entries get a receipt for each, and those that cannot be read a problem with a code."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pycrdt
import pytest

from tests.e2e.kit import MIB, neighbour, push, update_of
from tests.harness.server_process import ServerProcess


async def test_ten_thousand_entries_some_bad_get_ten_thousand_receipts(
    http: aiohttp.ClientSession, node: ServerProcess
) -> None:
    good = update_of("good")
    kinds: list[tuple[dict[str, object], str | None]] = [
        ({"doc": "queue", "update": b"\x01\xff\xff"}, "malformed-update"),
        ({"doc": "queue", "update": good[:-2]}, "malformed-update"),
        ({"doc": "queue", "update": "text"}, "malformed-update"),
        ({"doc": "bad\nname", "update": good}, "bad-document-name"),
        ({"doc": "a" * 201, "update": good}, "bad-document-name"),
        ({"update": good}, "bad-document-name"),
        ({"doc": "queue", "lineage": 7, "update": good}, "bad-lineage"),
    ]
    entries: list[dict[str, object]] = []
    expected: list[str | None] = []
    for index in range(10_000):
        fields, code = kinds[index // 50 % len(kinds)] if index % 50 == 7 else ({"doc": "queue"}, None)
        entries.append({"update": update_of("y") if code is None else b"", **fields, "id": str(index)})
        expected.append(code)
    async with neighbour(http, node) as person:
        pushing = asyncio.ensure_future(push(http, node, entries))
        await person.works()
        answer = await pushing
    assert [receipt["id"] for receipt in answer["receipts"]] == [str(index) for index in range(10_000)]
    assert [receipt.get("code") for receipt in answer["receipts"]] == expected
    assert all(r["status"] == ("rejected" if r.get("code") else "applied") for r in answer["receipts"])
    delta = (await push(http, node, [], pull={"queue": b"\x00"}))["deltas"]["queue"]
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.apply_update(delta["update"])
    assert str(doc.get("text", type=pycrdt.Text)) == "y" * expected.count(None)


BAD_BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "no MessagePack": ("application/msgpack", b"\xc1", 400, "bad-request"),
    "cut MessagePack": ("application/msgpack", msgpack.packb({"device": "d"})[:-1], 400, "bad-request"),
    "an array": ("application/msgpack", b"\x90", 400, "bad-request"),
    "no JSON": ("application/json", b"{", 400, "bad-request"),
    "JSON that is not UTF-8": ("application/json", b'{"device":"\xff"}', 400, "bad-request"),
    "deep JSON": ("application/json", b"[" * 100_000, 400, "bad-request"),
    "no device": ("application/json", b"{}", 400, "bad-request"),
    "an entry without id": ("application/json", b'{"device":"d","entries":[{}]}', 400, "bad-request"),
    "too many entries": ("application/msgpack", msgpack.packb({"device": "d", "entries": [0] * 10_001}), 400, "bad-request"),
    "another type": ("text/plain", b"hello", 415, "unsupported-content-type"),
    "too large": ("application/msgpack", bytes(16 * MIB + 1), 413, "request-entity-too-large"),
}


@pytest.mark.parametrize(("kind", "body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_push_is_a_problem_with_a_code(
    http: aiohttp.ClientSession, node: ServerProcess, kind: str, body: bytes, status: int, code: str
) -> None:
    async with http.post(f"{node.url}/api/v1/sync", data=io.BytesIO(body), headers={"Content-Type": kind}) as response:
        assert response.content_type == "application/problem+json"
        problem = await response.json()
        assert (response.status, problem["status"], problem["code"]) == (status, status, code)
        assert problem["detail"]
