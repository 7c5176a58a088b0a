from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path

import aiohttp
import pytest

from tests.server.web.kit import PATIENCE, running


async def test_the_root_says_what_is_here(tmp_path: Path) -> None:
    async with running(tmp_path, "--open") as server, server.http.get(f"{server.url}/") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/plain")
    assert text.startswith(f"Ebbtide {version('ebbtide')},")
    for address in ("/ws'", "/collab'", "/api/v1/sync", "/healthz", "/readyz", "/metrics"):
        assert address in text


@pytest.mark.parametrize(("path", "status"), [("/ws", 404), ("/ws/", 400), ("/ws/?token=a", 400)])
async def test_who_names_no_document_is_told_so(tmp_path: Path, path: str, status: int) -> None:
    async with running(tmp_path, "--open") as server, server.http.get(server.url + path) as response:
        body = await response.json()
        assert (response.status, response.content_type) == (status, "application/problem+json")
        assert "/ws/NAME" in body["detail"]


async def test_a_websocket_without_a_name_is_told_in_its_protocol(tmp_path: Path) -> None:
    async with running(tmp_path, "--open") as server, server.http.ws_connect(f"{server.url}/ws/") as socket:
        async with asyncio.timeout(PATIENCE):
            assert (await socket.receive()).type is aiohttp.WSMsgType.BINARY
            await socket.receive()
        assert socket.close_code == 4400
