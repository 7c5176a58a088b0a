"""SIGKILL to a client in the middle of its work: nothing that was typed is lost, and nothing is there twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from pycrdt import Text

from ebbtide_client import Client, Mode
from tests.harness.server_process import ServerProcess

TYPIST = """
import asyncio, sys
from ebbtide_client import Client, Mode
from pycrdt import Text

async def main(url, path, mode):
    async with Client(url, path=path) as client:
        document = await client.open("notes", Mode(mode))
        text = document.ydoc.get("text", type=Text)
        number = len(str(text).split())
        while True:
            text += f"{number} "
            print(number, flush=True)
            number += 1
            await asyncio.sleep(0.001)

asyncio.run(main(*sys.argv[1:]))
"""
KILLED_AFTER = (1, 40, 150)
"""Edits after which a typist is killed."""


def type_until_killed(url: str, path: Path, mode: Mode, edits: int) -> int:
    """Returns the last number whose edit returned before the typist was killed, some time after `edits` of them."""
    command = [sys.executable, "-c", TYPIST, url, str(path), mode.value]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as typist:
        assert typist.stdout is not None
        printed = [typist.stdout.readline() for _ in range(edits)]
        typist.kill()
        printed += typist.stdout.readlines()
    return int([line for line in printed if line.endswith("\n")][-1])


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.PUSH])
async def test_a_killed_client_loses_and_doubles_nothing(server: ServerProcess, tmp_path: Path, mode: Mode) -> None:
    path = tmp_path / "outbox"
    last = -1
    for edits in KILLED_AFTER:
        last = await asyncio.to_thread(type_until_killed, server.url, path, mode, edits)

    async with Client(server.url, path=path) as client, Client(server.url, path=tmp_path / "other") as other:
        document = await client.open("notes", Mode.OFFLINE)
        words = str(document.ydoc.get("text", type=Text)).split()
        assert len(words) > last
        assert words == [str(number) for number in range(len(words))]
        await document.push()
        assert document.status.unsynced == 0
        copy = await other.open("notes", Mode.OFFLINE)
        await copy.push()
        assert str(copy.ydoc.get("text", type=Text)).split() == words
