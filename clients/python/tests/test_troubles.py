"""A wrong URL, a token that will never do, a server that is away: said at once, logged once, and never waited for in vain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pycrdt import Text

from ebbtide_client import (
    AccessDenied,
    Client,
    Connection,
    Document,
    Mode,
    ServerBusy,
    Settings,
    Status,
    TokenRefused,
    UnexpectedAnswer,
    Unreachable,
    WrongAddress,
)
from tests.harness.server_process import ServerProcess

Mint = Callable[..., str]

SYNCING = pytest.mark.parametrize("mode", [Mode.LIVE, Mode.PUSH])
PATIENCE = 20.0
"""Seconds after which a test gives up."""

NO_ADDRESSES = (
    *("", "127.0.0.1:8080", "localhost:8080", "ftp://example.org", "http://", "http:///notes"),
    *("http://h:99999", "http://h:0", "http://h:port", "http://[::1"),
    *("http://example.org/?token=x", "https://example.org/#top"),
)


async def reaches(document: Document, condition: Callable[[Status], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        async for status in document.changes():
            if condition(status):
                return


async def synced(document: Document) -> None:
    async with asyncio.timeout(PATIENCE):
        await document.synced()


async def write(client: Client, mode: Mode) -> Document:
    document = await client.open("notes", mode)
    document.ydoc.get("text", type=Text).insert(0, "x")
    return document


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.partition(".")[0] == "ebbtide_client" and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_of_a_server_is_refused_at_once(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="the URL"):
        Client(url, path=tmp_path / "a")


@pytest.mark.parametrize("suffix", ["", "/"])
@pytest.mark.parametrize("scheme", ["http", "ws", "WS"])
async def test_the_address_of_a_provider_is_good_too(server: ServerProcess, tmp_path: Path, scheme: str, suffix: str) -> None:
    async with Client(server.url.replace("http", scheme) + suffix, path=tmp_path / "a") as client:
        await synced(await write(client, Mode.LIVE))


@SYNCING
@pytest.mark.parametrize("path", ["/ws", "/nothing/here"])
async def test_a_wrong_path_is_named(
    server: ServerProcess, tmp_path: Path, quick: Settings, caplog: pytest.LogCaptureFixture, path: str, mode: Mode
) -> None:
    async with Client(server.url + path, path=tmp_path / "a", settings=quick) as client:
        document = await write(client, mode)
        with pytest.raises(WrongAddress, match=f"{server.url}{path}/api/v1/sync is not there .* check the URL"):
            await synced(document)
        assert document.status.unsynced == 1
        [warning] = warnings(caplog)
        assert "without /ws or /api" in warning


@SYNCING
async def test_a_server_that_is_away_is_warned_of_once_and_again_after_it_was_there(
    server: ServerProcess, tmp_path: Path, quick: Settings, caplog: pytest.LogCaptureFixture, mode: Mode
) -> None:
    async with Client(server.url, path=tmp_path / "a", settings=replace(quick, longest_delay=0.05)) as client:
        documents = [await client.open(name, mode) for name in ("one", "two")]
        for outages in (1, 2):
            for document in documents:
                await reaches(document, lambda status: status.connection in (Connection.LIVE, Connection.PUSHING))
            assert len(warnings(caplog)) == outages - 1
            server.kill()
            for document in documents:
                await reaches(document, lambda status: isinstance(status.problem, Unreachable))
            await asyncio.sleep(0.5)  # a dozen attempts
            assert len(warnings(caplog)) == outages
            await asyncio.to_thread(server.start)
    for warning in warnings(caplog):
        assert f"the server cannot be reached: 127.0.0.1:{server.port}: " in warning
        assert "ssl" not in warning


@SYNCING
@pytest.mark.parametrize(
    ("lasts", "token", "reason"),
    [(None, "nonsense", "not a JWT"), (None, None, "no token"), (-1.0, "", "expired"), (600.0, "", "not signed with")],
)
async def test_a_fixed_token_that_is_not_good_ends_the_sync(
    guarded: ServerProcess,
    mint: Mint,
    tmp_path: Path,
    quick: Settings,
    caplog: pytest.LogCaptureFixture,
    mode: Mode,
    lasts: float | None,
    token: str | None,
    reason: str,
) -> None:
    if lasts is not None:
        signed, other = mint("editor", lasts=lasts), mint("viewer")
        token = signed if lasts < 0 else signed.rpartition(".")[0] + "." + other.rpartition(".")[2]
    async with Client(guarded.url, path=tmp_path / "a", token=token, settings=quick) as client:
        document = await write(client, mode)
        with pytest.raises(TokenRefused, match=reason):
            await synced(document)
        assert (document.status.connection, document.status.unsynced) == (Connection.OFFLINE, 1)
        [warning] = warnings(caplog)
        assert "end of sync of 'notes'" in warning
        assert document._task is not None
        assert document._task.done(), "nobody asks again"


async def test_a_token_source_that_gives_bad_tokens_is_asked_on(
    guarded: ServerProcess, mint: Mint, tmp_path: Path, quick: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def source() -> str:
        nonlocal asked
        asked += 1
        return "nonsense" if asked < 6 else mint("editor")

    async with Client(guarded.url, path=tmp_path / "a", token=source, settings=quick) as client:
        document = await write(client, Mode.LIVE)
        await reaches(document, lambda status: isinstance(status.problem, AccessDenied))
        await synced(document)
        assert len(warnings(caplog)) == 1


async def test_a_web_server_of_another_kind_is_named_and_asked_again(
    tmp_path: Path, quick: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def page(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text="<html>Welcome</html>", content_type="text/html")

    other = web.Application()
    other.router.add_post("/api/v1/sync", page)
    served: AbstractAsyncContextManager[TestServer] = TestServer(other)
    async with served as portal, Client(str(portal.make_url("/")), path=tmp_path / "a", settings=quick) as client:
        document = await write(client, Mode.LIVE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await document.synced()
        assert asked > 2
        [warning] = warnings(caplog)
        assert f"is {portal.make_url('/api/v1/sync')} an Ebbtide server?" in warning


async def test_a_client_that_came_too_often_comes_back_when_it_was_told_to(
    server: ServerProcess, tmp_path: Path, quick: Settings
) -> None:
    """A gate in front of a real server says 429 once, as the server does when there is a minute to wait."""
    loop = asyncio.get_running_loop()
    asked: list[float] = []

    async def gate(request: web.Request) -> web.Response:
        asked.append(loop.time())
        if len(asked) == 1:
            problem = {"code": "rate-limited", "detail": "more than 1 pushes were sent in a minute; come back in 1 s"}
            return web.json_response(problem, status=429, headers={"Retry-After": "1"}, content_type="application/problem+json")
        headers = {"Content-Type": request.headers["Content-Type"]}
        async with (
            ClientSession() as http,
            http.post(f"{server.url}{request.path}", data=await request.read(), headers=headers) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

    front = web.Application()
    front.router.add_post("/api/v1/sync", gate)
    served: AbstractAsyncContextManager[TestServer] = TestServer(front)
    async with served as portal, Client(str(portal.make_url("/")), path=tmp_path / "a", settings=quick) as client:
        document = await write(client, Mode.PUSH)
        await reaches(document, lambda status: isinstance(status.problem, ServerBusy))
        assert (document.status.unsynced, document.status.rejected) == (1, ())
        await synced(document)
    assert asked[1] - asked[0] >= 1.0


async def test_a_socket_that_is_refused_says_when_to_come_back(tmp_path: Path, quick: Settings) -> None:
    with ServerProcess(tmp_path / "data", "--rate-handshakes", "1") as server:
        # Another socket at once, in the next minute if this one ends in between.
        async with Client(server.url, path=tmp_path / "a", settings=quick) as client:
            documents = [await client.open(name) for name in ("one", "two", "three")]
            async with asyncio.timeout(PATIENCE):
                while not any(isinstance(document.status.problem, ServerBusy) for document in documents):
                    await asyncio.sleep(0.01)
            [busy, *_] = [each.status.problem for each in documents if isinstance(each.status.problem, ServerBusy)]
            assert 1 <= busy.retry_after <= 60


@asynccontextmanager
async def answering(answer: Callable[[dict[str, Any]], web.Response | Any]) -> AsyncIterator[str]:
    """A server of another make, or an ill-natured one: the URL of one that answers each push so."""

    async def sync(request: web.Request) -> web.Response:
        made = answer(msgpack.unpackb(await request.read()))
        if isinstance(made, web.Response):
            return made
        return web.Response(body=msgpack.packb(made), content_type="application/msgpack")

    other = web.Application()
    other.router.add_post("/api/v1/sync", sync)
    served: AbstractAsyncContextManager[TestServer] = TestServer(other)
    async with served as portal:
        yield str(portal.make_url("/"))


def with_delta(**delta: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda asked: {
        "receipts": [{"id": entry["id"], "status": "applied", "seq": 1} for entry in asked["entries"]],
        "deltas": dict.fromkeys(asked["pull"], delta),
    }


@pytest.mark.parametrize(
    "delta",
    [{}, {"update": "text", "seq": 1, "lineage": "L"}, {"update": b"\x00\x00", "seq": 1, "lineage": 7}, {"code": 7}],
    ids=["nothing", "text", "another lineage", "a number"],
)
async def test_a_delta_that_is_none_is_an_unexpected_answer(tmp_path: Path, delta: dict[str, Any]) -> None:
    async with answering(with_delta(**delta)) as url, Client(url, path=tmp_path / "a") as client:
        document = await write(client, Mode.OFFLINE)
        with pytest.raises(UnexpectedAnswer, match="neither an update nor a refusal"):
            await document.push()


async def test_an_answer_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    settings = Settings(max_answer_bytes=1 << 20)
    plain = with_delta(update=b"\x00\x00", seq=1, lineage="L")
    async with (
        answering(lambda asked: {**plain(asked), "more": bytes(2 << 20)}) as url,
        Client(url, path=tmp_path / "a", settings=settings) as client,
    ):
        document = await write(client, Mode.OFFLINE)
        with pytest.raises(UnexpectedAnswer, match="more than 1048576 bytes"):
            await document.push()
        assert document.status.unsynced == 1


@pytest.mark.parametrize(("said", "taken"), [("60", 60.0), ("9" * 400, 300.0), ("-1", 0.0), ("tomorrow", 0.0)])
async def test_a_server_cannot_ask_for_more_than_five_minutes(tmp_path: Path, said: str, taken: float) -> None:
    async with (
        answering(lambda _: web.Response(status=503, headers={"Retry-After": said})) as url,
        Client(url, path=tmp_path / "a") as client,
    ):
        document = await write(client, Mode.OFFLINE)
        with pytest.raises(ServerBusy) as busy:
            await document.push()
        assert busy.value.retry_after == taken
