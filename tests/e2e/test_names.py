"""Names of documents are what their bytes say, and those that are not allowed are told to their client."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import pycrdt
import pytest
from yarl import URL

from tests.e2e.kit import BLANK_STEP_1, YWS, end_of, push, update_of
from tests.harness.server_process import ServerProcess


@pytest.mark.parametrize("name", ["", "%ff%fe", "a" * 201, "%00", "a%09b", "%C3%BC" * 101], ids=lambda name: name[:9])
async def test_a_name_that_is_not_allowed_is_told_to_the_client(
    http: aiohttp.ClientSession, node: ServerProcess, name: str
) -> None:
    """A browser shows a page nothing of a refused handshake, and the page's provider would come back for ever."""
    async with http.ws_connect(URL(f"{node.url}/ws/{name}", encoded=True)) as socket:
        await socket.send_bytes(BLANK_STEP_1)
        assert await end_of(socket) == (4400, "a document name is 1 to 200 bytes of UTF-8 without control characters")


async def test_names_are_what_their_bytes_say_and_nothing_is_read_into_them(
    http: aiohttp.ClientSession, node: ServerProcess
) -> None:
    names = ["a/b", "ü +%25", "%FF", "日本"]
    for name in names:
        async with http.ws_connect(URL(f"{node.url}/ws/{quote(name)}", encoded=True)) as socket:
            update = YWS.update("", update_of(name))
            await socket.send_bytes(update)
            while await socket.receive_bytes() != update:
                pass
    for name in names:
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        doc.apply_update((await push(http, node, [], pull={name: b"\x00"}))["deltas"][name]["update"])
        assert str(doc.get("text", type=pycrdt.Text)) == name
