"""`ebbtide serve --workers N` and `--drain-notice-seconds` with real processes: one service, in order to its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from sync.protocol.yws import YWebSocket
from tests.harness.server_process import REPOSITORY, ServerDidNotStart, ServerProcess

YWS = YWebSocket()
PATIENCE = 20.0
UPDATE = bytes.fromhex("0101ea91bc0a000401047465787402686900")
"""Puts `hi` into the text."""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data", "--workers", "3") as server:
        yield server


def metric(server: ServerProcess, name: str) -> dict[str, float]:
    """The figure of each worker."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as response:
        found = re.findall(rf'^{name}{{worker="(\d)"}} (\S+)$', response.read().decode(), re.MULTILINE)
    return {worker: float(value) for worker, value in found}


def status(server: ServerProcess, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}{path}", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.01)


async def until_closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(PATIENCE):
        async for _ in socket:
            pass
    return socket.close_code


async def joined(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Ask for what there is, and return when that has come."""
    await socket.send_bytes(YWS.step1("", b"\x00"))
    async with asyncio.timeout(PATIENCE):
        while (await socket.receive_bytes())[:2] != b"\x00\x01":
            pass


async def test_connections_are_spread_and_an_edit_and_presence_reach_all(workers: ServerProcess) -> None:
    async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(http.ws_connect(f"{workers.url}/ws/d")) for _ in range(24)]
        for socket in sockets:
            await joined(socket)
        open_sockets = await asyncio.to_thread(metric, workers, "ebbtide_sockets")
        assert sum(open_sockets.values()) == 24
        assert len(open_sockets) == 3
        assert all(open_sockets.values()), "one worker has no connection"
        presence = YWS.awareness("", b"\x01\x07\x01\x0e" + b'{"name":"Ada"}')
        await sockets[0].send_bytes(presence)
        await sockets[0].send_bytes(YWS.update("", UPDATE))
        for socket in sockets:
            wanted = {presence, YWS.update("", UPDATE)}
            async with asyncio.timeout(PATIENCE):
                while wanted:
                    wanted.discard(await socket.receive_bytes())


async def test_each_worker_answers_for_itself(workers: ServerProcess) -> None:
    for _ in range(10):
        assert [await asyncio.to_thread(status, workers, path) for path in ("/healthz", "/readyz")] == [200, 200]
    assert await asyncio.to_thread(metric, workers, "ebbtide_worker_up") == {"0": 1, "1": 1, "2": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_parent_ends_all_in_order(workers: ServerProcess, number: int) -> None:
    pids = workers.workers
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"{workers.url}/ws/d")
        os.kill(workers.pid, number)
        assert await until_closed(socket) == aiohttp.WSCloseCode.SERVICE_RESTART
    assert await asyncio.to_thread(workers.stop) == 0
    await asyncio.to_thread(until_gone, pids)
    assert "Traceback" not in workers.errors


def test_a_ctrl_c_that_reaches_all_of_them_ends_all_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "serve", "--open", "--workers", "2", "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ebbtide listening on ")
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


async def test_workers_whose_parent_is_killed_end_in_order(workers: ServerProcess) -> None:
    pids = workers.workers
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"{workers.url}/ws/d")
        os.kill(workers.pid, signal.SIGKILL)
        assert await until_closed(socket) == aiohttp.WSCloseCode.SERVICE_RESTART
    await asyncio.to_thread(until_gone, pids)
    assert workers.errors.count("the parent is gone") == 3
    # The port and the store are free again.
    await asyncio.to_thread(workers.kill)
    await asyncio.to_thread(workers.start)
    assert await asyncio.to_thread(workers.stop) == 0


def test_two_services_do_not_share_a_port(workers: ServerProcess, tmp_path: Path) -> None:
    other = ServerProcess(tmp_path / "other", "--workers", "2")
    other.port = workers.port
    with pytest.raises(ServerDidNotStart, match="another program listens there") as caught, other:
        pass
    assert str(caught.value).count("\n") == 1


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [
        sys.executable,
        "-m",
        "server",
        "serve",
        "--open",
        "--workers",
        "3",
        "--port",
        "0",
        "--data",
        str(tmp_path / "file"),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("ebbtide: ")]
    assert (done.returncode, len(said), done.stdout) == (2, 1, "")
    assert "cannot be used" in said[0]
    assert "Traceback" not in done.stderr


def test_workers_need_a_folder_whose_path_is_short(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with (
        pytest.raises(ServerDidNotStart, match="set TMPDIR=/tmp") as caught,
        ServerProcess(tmp_path / "data", "--workers", "2", environ={"TMPDIR": str(folder)}),
    ):
        pass
    assert str(caught.value).count("\n") == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("extra", [(), ("--workers", "2")])
async def test_a_notice_comes_before_the_drain(tmp_path: Path, extra: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path / "data", "--drain-notice-seconds", "3600", *extra) as server:
        async with aiohttp.ClientSession() as http:
            socket = await http.ws_connect(f"{server.url}/ws/d")
            pids = server.workers
            os.kill(server.pid, signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                while await asyncio.to_thread(status, server, "/readyz") != 503:
                    await asyncio.sleep(0.02)
            assert await asyncio.to_thread(status, server, "/healthz") == 200
            # Who is here is served, and so is who still comes.
            newcomer = await http.ws_connect(f"{server.url}/ws/d")
            for each in (socket, newcomer):
                await joined(each)
            await socket.send_bytes(YWS.update("", UPDATE))
            for each in (socket, newcomer):
                async with asyncio.timeout(PATIENCE):
                    while await each.receive_bytes() != YWS.update("", UPDATE):
                        pass
            body = json.dumps({"device": "d", "entries": []})
            async with http.post(f"{server.url}/api/v1/sync", data=body, headers={"Content-Type": "application/json"}) as push:
                assert push.status == 200
        # Workers do not keep the notice when their parent is gone.
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.to_thread(until_gone, pids)
