"""Revoking, and how those who are in, or come in, are told."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pycrdt

from tests.e2e.kit import BLANK_STEP_1, PATIENCE, end_of, token
from tests.harness.server_process import ServerProcess


def admin(**claims: Any) -> str:
    return token("the app", admin=True, documents={}, **claims)


async def revoke(
    http: aiohttp.ClientSession, node: ServerProcess, body: object, bearer: str | None = None
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {admin() if bearer is None else bearer}"}
    async with http.post(f"{node.url}/api/v1/revocations", json=body, headers=headers) as response:
        return response.status, await response.json()


async def push(http: aiohttp.ClientSession, node: ServerProcess, bearer: str) -> tuple[int, str]:
    """Status and code of the answer to a push of one edit."""
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/msgpack"}
    body = msgpack.packb({"device": "d", "entries": [{"id": "1", "doc": "pushed", "update": pycrdt.Doc().get_update()}]})
    async with http.post(f"{node.url}/api/v1/sync", data=body, headers=headers) as response:
        return response.status, "" if response.status == 200 else (await response.json())["code"]


async def opened(http: aiohttp.ClientSession, node: ServerProcess, bearer: str) -> aiohttp.ClientWebSocketResponse:
    """A `/ws` socket that has had its handshake."""
    socket = await http.ws_connect(f"{node.url}/ws/d", headers={"Authorization": f"Bearer {bearer}"})
    await socket.send_bytes(BLANK_STEP_1)
    async with asyncio.timeout(PATIENCE):
        while (await socket.receive_bytes())[:2] != b"\x00\x01":
            pass
    return socket


async def close_code(socket: aiohttp.ClientWebSocketResponse) -> int:
    """The code that the socket ends with, whatever comes before it."""
    return (await end_of(socket))[0]


async def refusal_of(http: aiohttp.ClientSession, node: ServerProcess, bearer: str) -> int:
    async with http.ws_connect(f"{node.url}/ws/d", headers={"Authorization": f"Bearer {bearer}"}) as socket:
        return await close_code(socket)
