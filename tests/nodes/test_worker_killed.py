"""One of three workers is killed under load: nobody loses an edit, and another takes its place."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from server.stores.sqlite import open_sqlite
from tests.harness.crowd import PATIENCE
from tests.harness.observed import Observe
from tests.harness.server_process import ServerProcess
from tests.nodes.load import Load


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_worker_is_killed_under_load(tmp_path: Path, observe: Observe) -> None:
    with ServerProcess(tmp_path / "data", "--workers", "3") as server:
        async with Load(server.url, tmp_path) as load:
            await load.goes_on()
            for turn in range(2):
                before = server.workers
                assert len(before) == 3
                os.kill(before[0], signal.SIGKILL)
                async with asyncio.timeout(PATIENCE):
                    while server.errors.count("worker serves") <= turn or len(server.workers) < 3:
                        await asyncio.sleep(0.02)
                await load.goes_on()
                assert before[0] not in server.workers
            converged = await load.converges()
            await load.judge(lambda: open_sqlite(tmp_path / "data" / "ebbtide.sqlite"))
        # A killed worker takes its sockets along; the other workers' clients notice nothing.
        ends = {"close 1006", "ClientConnectorError", "ClientOSError", "ServerDisconnectedError", "ConnectionResetError"}
        assert set(load.ledger.met) <= ends | {f"push {end}" for end in ends}, load.ledger.met
        assert server.errors.count("worker died, another follows") == 2
        assert "Traceback" not in server.errors
        workers = server.workers
        assert await asyncio.to_thread(server.stop) == 0
        assert not any(map(exists, workers))
    observe(f"A worker of three killed, twice: {load.summary(converged)}")
