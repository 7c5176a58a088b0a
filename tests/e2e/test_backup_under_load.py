"""A backup of running servers that are being written to: a prefix of every log, with all that was acknowledged before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from server.stores.mongo import open_mongo
from server.stores.sqlite import open_sqlite
from tests.durability.clients import Ledger, marks, write_collab, write_live, write_queue
from tests.harness.mongod import ReplicaSet
from tests.harness.oracle import OpenStore
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import REPOSITORY, ServerProcess
from tests.server.archive.kit import Log, contents
from tests.server.commands.kit import Ended, command

DOCUMENTS = [f"d{number}" for number in range(12)]
BACKUPS = 2
PATIENCE = 180.0


async def run(*arguments: str) -> str:
    """Run a command beside the server, to its end, which is a good one; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments), cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    ended = Ended(process.returncode or 0, out.decode(), err.decode())
    assert ended.fine, ended
    return ended.out


class Home(NamedTuple):
    """A store: what names it for servers and commands, and how a test opens it."""

    folder: Path
    address: tuple[str, ...]
    open: OpenStore

    @property
    def flags(self) -> tuple[str, ...]:
        return self.address or ("--data", str(self.folder))

    async def contents(self) -> dict[str, Log]:
        store = await self.open()
        try:
            return await contents(store)
        finally:
            await store.close()


class Deployment(NamedTuple):
    """Nodes that are to run on a store, and an empty store of the same kind."""

    home: Home
    other: Home
    nodes: list[ServerProcess]


def one_on_sqlite(folder: Path, parts: ExitStack) -> Deployment:
    def home(name: str) -> Home:
        return Home(folder / name, (), lambda: open_sqlite(folder / name / "ebbtide.sqlite"))

    return Deployment(home("data"), home("other"), [ServerProcess(folder / "data")])


def two_on_mongodb(folder: Path, parts: ExitStack) -> Deployment:
    members = parts.enter_context(ReplicaSet(folder / "mongo"))
    redis = parts.enter_context(RedisServer(folder / "redis"))

    def home(name: str) -> Home:
        return Home(folder / name, ("--store", members.url(name)), lambda: open_mongo(members.url(name)))

    return Deployment(
        home("data"),
        home("other"),
        [ServerProcess(folder / node, *home("data").address, "--bus", redis.url) for node in ("a", "b")],
    )


@pytest.fixture(params=[one_on_sqlite, two_on_mongodb])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with ExitStack() as parts:
        yield request.param(tmp_path, parts)


async def write(urls: list[str], ledger: Ledger) -> None:
    """Write to every document by every way in, on all nodes, until they go. The last node has each document too."""
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.TaskGroup() as group:
            for document, url in zip(DOCUMENTS, cycle(urls)):
                group.create_task(write_live(url, document, f"live-{document}", ledger))
            group.create_task(write_collab(urls[-1], "d0", "collab", ledger))
            group.create_task(write_queue(urls[-1], DOCUMENTS, "queue", ledger))


async def test_backups_under_load_are_prefixes_and_lack_nothing_acknowledged(tmp_path: Path, deployment: Deployment) -> None:
    folder, (home, restored, nodes) = tmp_path / "backup", deployment
    ledger, acknowledged = Ledger(), dict[str, set[str]]()
    with ExitStack() as running:
        for node in nodes:
            running.enter_context(node)
        async with asyncio.timeout(PATIENCE):
            writers = asyncio.create_task(write([node.url for node in nodes], ledger))
            while len(ledger.acknowledged) < len(DOCUMENTS):
                await ledger.reach(ledger.total + 1)
            for number in range(BACKUPS):
                await ledger.reach(ledger.total + 200)
                acknowledged = {document: set(of_it) for document, of_it in ledger.acknowledged.items()}
                before = ledger.total
                assert "12 documents" in await run("backup", str(folder), *home.flags)
                assert ledger.total > before, "nothing was written meanwhile"
                assert f"verified {folder}: 12 documents" in await run("verify", str(folder))
                if number == 0:
                    assert "12 documents" in await run("verify", *home.flags)
            writers.cancel()
            with suppress(asyncio.CancelledError):
                await writers
    await run("restore", str(folder), *restored.flags)
    await run("verify", *restored.flags)
    there, here = await home.contents(), await restored.contents()
    assert here.keys() == there.keys() == set(DOCUMENTS)
    for document, (lineage, head, _, _, entries) in here.items():
        assert lineage == there[document][0]
        assert [entry.seq for entry in entries] == list(range(1, head + 1))
        assert entries == there[document][4][:head]
    with ServerProcess(restored.folder, *restored.address) as server:
        for document, of_it in acknowledged.items():
            assert of_it <= await marks(server.url, document)
