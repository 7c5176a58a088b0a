"""Staying connected: what ends it, and what does not."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from server.connected import Came, Connection, answered

PATIENCE = 10.0
AWAY = (OSError,)
AT_ONCE = (0.0, 0.0)


@pytest.mark.parametrize("failure", [OSError("away"), KeyError("a mistake")])
async def test_a_failure_while_it_is_cancelled_does_not_hide_that_it_was(failure: Exception) -> None:
    inside = asyncio.Event()

    async def stays() -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise failure

    async def connected(came: Came) -> None:
        came()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stays())

    told: list[BaseException] = []
    connection = Connection(connected, told.append, AWAY, AT_ONCE)
    await inside.wait()
    await asyncio.wait_for(connection.close(), PATIENCE)
    assert not connection.kept
    assert told == [failure]


async def test_a_mistake_is_said_and_what_is_away_is_not(caplog: pytest.LogCaptureFixture) -> None:
    failures = [OSError("away"), KeyError("a mistake"), OSError("away again")]
    told: list[BaseException] = []
    back = asyncio.Event()

    async def connected(came: Came) -> None:
        if len(told) < len(failures):
            raise failures[len(told)]
        came()
        back.set()
        await asyncio.Event().wait()

    connection = Connection(connected, told.append, AWAY, AT_ONCE)
    await asyncio.wait_for(back.wait(), PATIENCE)
    assert connection.kept
    await connection.close()
    assert told == failures
    assert caplog.text.count("Traceback") == 1
    assert "a mistake" in caplog.text


async def test_a_connection_that_was_closed_meanwhile_is_away_and_no_mistake() -> None:
    async def closed() -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    with pytest.raises(ConnectionError, match="the handler is closed"):
        await answered(closed())
    assert await answered(asyncio.sleep(0, "an answer")) == "an answer"


async def test_what_uvloop_says_of_a_transport_that_was_closed_is_away() -> None:
    lost = asyncio.Event()

    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    async def write() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(Protocol, *server.sockets[0].getsockname())
        transport.abort()
        await asyncio.wait_for(lost.wait(), PATIENCE)
        server.close()
        transport.write(b"x")

    with pytest.raises(ConnectionError, match="unable to perform operation"):
        await asyncio.to_thread(uvloop.run, answered(write()))


async def test_another_runtime_error_is_a_mistake_and_stays_one() -> None:
    async def mistaken() -> None:
        raise RuntimeError("pubsub connection not set: did you forget to call subscribe() or psubscribe()?")

    with pytest.raises(RuntimeError, match="did you forget"):
        await answered(mistaken())
