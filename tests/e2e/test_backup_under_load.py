"""A backup of a running server that is being written to: a prefix of every log, with all that was acknowledged before."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import aiohttp

from tests.durability.clients import Ledger, marks, write_collab, write_live, write_queue
from tests.harness.server_process import REPOSITORY, ServerProcess
from tests.server.archive.kit import contents_of
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


async def test_backups_under_load_are_prefixes_and_lack_nothing_acknowledged(tmp_path: Path) -> None:
    data, folder, restored = tmp_path / "data", tmp_path / "backup", tmp_path / "restored"
    ledger, acknowledged = Ledger(), dict[str, set[str]]()
    with ServerProcess(data) as server:

        async def writing() -> None:
            with suppress(aiohttp.ClientError, OSError):
                async with asyncio.TaskGroup() as group:
                    for document in DOCUMENTS:
                        group.create_task(write_live(server.url, document, f"live-{document}", ledger))
                    group.create_task(write_collab(server.url, "d0", "collab", ledger))
                    group.create_task(write_queue(server.url, DOCUMENTS, "queue", ledger))

        async with asyncio.timeout(PATIENCE):
            writers = asyncio.create_task(writing())
            for number in range(BACKUPS):
                await ledger.reach(ledger.total + 200)
                acknowledged = {document: set(of_it) for document, of_it in ledger.acknowledged.items()}
                before = ledger.total
                assert "12 documents" in await run("backup", str(folder), "--data", str(data))
                assert ledger.total > before, "nothing was written meanwhile"
                assert f"verified {folder}: 12 documents" in await run("verify", str(folder))
                if number == 0:
                    assert f"verified {data}: 12 documents" in await run("verify", "--data", str(data))
            writers.cancel()
            with suppress(asyncio.CancelledError):
                await writers
    await run("restore", str(folder), "--data", str(restored))
    await run("verify", "--data", str(restored))
    there, here = await contents_of(data / "ebbtide.sqlite"), await contents_of(restored / "ebbtide.sqlite")
    assert here.keys() == there.keys() == set(DOCUMENTS)
    for document, (lineage, head, _, _, entries) in here.items():
        assert lineage == there[document][0]
        assert [entry.seq for entry in entries] == list(range(1, head + 1))
        assert entries == there[document][4][:head]
    with ServerProcess(restored) as server:
        for document, of_it in acknowledged.items():
            assert of_it <= await marks(server.url, document)
