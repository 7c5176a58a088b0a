"""A stop while MongoDB does not answer: the log says so in lines of its own, without a traceback of the driver."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import aiohttp
import pytest
from pymongo.errors import AutoReconnect

from server.stores.mongo_errors import no_outage
from tests.e2e.kit import BLANK_STEP_1, YWS, update_of
from tests.harness.mongod import ReplicaSet
from tests.harness.server_process import ServerProcess

PATIENCE = 60.0


async def test_a_stop_while_mongodb_hangs_leaves_no_traceback(tmp_path: Path) -> None:
    with (
        ReplicaSet(tmp_path / "mongo") as replica_set,
        ServerProcess(tmp_path / "data", "--store", replica_set.url("db"), "--store-timeout", "1") as node,
    ):
        (member,) = replica_set.members
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{node.url}/ws/d") as socket:
            await socket.send_bytes(BLANK_STEP_1)
            await socket.receive_bytes()
            member.signal(signal.SIGSTOP)
            try:
                await socket.send_bytes(YWS.update("", update_of()))
                async with asyncio.timeout(PATIENCE):
                    while "store unavailable" not in node.errors:
                        await asyncio.sleep(0.05)
                assert await asyncio.to_thread(node.stop, PATIENCE) == 0
            finally:
                member.signal(signal.SIGCONT)
        assert "Traceback" not in node.errors, node.errors


@pytest.mark.parametrize(("error", "logged"), [(AutoReconnect("away"), False), (KeyError("a mistake of the driver's"), True)])
def test_what_else_the_driver_logs_stays(error: Exception, logged: bool) -> None:
    info = (type(error), error, None)
    assert no_outage(logging.LogRecord("pymongo.client", logging.ERROR, "", 0, "an error", None, info)) is logged
    assert no_outage(logging.LogRecord("pymongo.client", logging.ERROR, "", 0, "an error", None, None))
