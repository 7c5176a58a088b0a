"""The disk is full: edits wait, the server says why, and it goes on by itself when there is room again."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from server.stores.sqlite import open_sqlite
from tests.faults.people import People, audit, judge
from tests.harness.crowd import PATIENCE
from tests.harness.observed import Observe
from tests.harness.server_process import ServerDidNotStart, ServerProcess

DISK_BYTES = 16 << 20
FULL_SECONDS = 1.0
URLS_OF_THE_ONLY_NODE = 2
"""Its address stands in the list twice: two people of each kind, all on this node."""


class SmallDisk:
    """A file system of its own, which a file fills up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, server: ServerProcess) -> None:
        with self._ballast.open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(bytes(4096)):
                pass
        assert not shutil.disk_usage(self.folder).free

    def make_room(self, server: ServerProcess) -> None:
        self._ballast.unlink()


class FileLimit:
    """A bound on the size of the server's files: it needs no rights, and makes writes fail in the same place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def fill(self, server: ServerProcess) -> None:
        size = max(path.stat().st_size for path in self.folder.iterdir())
        self._before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, self._before[1]))

    def make_room(self, server: ServerProcess) -> None:
        if server.running:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, self._before)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        message = f"a small file system cannot be mounted here, which takes root: {mount.stderr.strip()}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def file_limit(folder: Path) -> Iterator[FileLimit]:
    yield FileLimit(folder)


async def ready(server: ServerProcess) -> tuple[int, str]:
    """Status and body of `/readyz`."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/readyz") as response:
        return response.status, await response.text()


async def until_ready(server: ServerProcess) -> None:
    """Return once `/readyz` is content: appends must have worked for a while."""
    async with asyncio.timeout(PATIENCE):
        while (await ready(server))[0] != 200:
            await asyncio.sleep(0.05)


async def until_not_ready(server: ServerProcess) -> str:
    """What `/readyz` says once it is no longer content."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await ready(server))[0] == 200:
            await asyncio.sleep(0.05)
    return answer[1]


@pytest.mark.parametrize("disk", [small_disk, file_limit])
@pytest.mark.parametrize("restarted", [False, True], ids=["goes on", "killed and started again"])
async def test_the_disk_is_full(
    tmp_path: Path, disk: Callable[[Path], AbstractContextManager[SmallDisk | FileLimit]], restarted: bool, observe: Observe
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with disk(data) as full, ServerProcess(data) as server:
        urls = [server.url] * URLS_OF_THE_ONLY_NODE
        async with People(urls) as people:
            await people.progress()
            full.fill(server)
            refusal = await until_not_ready(server)
            assert "store-unavailable" in refusal
            assert "full" in refusal or "disk" in refusal
            await people.until(lambda: "store unavailable, edits wait" in server.errors, "word of it in the log")
            await asyncio.sleep(FULL_SECONDS)
            if restarted:
                server.kill()
            full.make_room(server)
            await audit(people, lambda: open_sqlite(data / "ebbtide.sqlite"))
            if restarted:
                await asyncio.to_thread(server.start)
            await people.progress()
            await until_ready(server)
            noticed = await judge(people, urls, lambda: open_sqlite(data / "ebbtide.sqlite"))
            observe(f"The disk is full ({disk.__name__}), the server {'is killed' if restarted else 'goes on'}: {noticed}")
            assert restarted or not people.errors(), "somebody noticed more than a pause"
        assert "Traceback" not in server.errors


async def test_a_server_that_starts_on_a_full_disk_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk, ServerProcess(tmp_path) as server:
        server.kill()
        disk.fill(server)
        server.start()
        assert "full" in await until_not_ready(server)
        disk.make_room(server)
        async with asyncio.timeout(PATIENCE):
            while (await ready(server))[0] != 200:
                await asyncio.sleep(0.05)


def test_a_server_does_not_start_without_room_for_a_database(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        server = ServerProcess(tmp_path)
        disk.fill(server)
        with pytest.raises(ServerDidNotStart, match="full") as raised:
            server.start()
        assert len(str(raised.value).splitlines()) == 1
        server.close()
