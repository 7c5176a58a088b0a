"""Sync that goes on by itself, live or by pushes, against a real server: echoes, outages, silence and refusals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pycrdt import Text

from ebbtide_client import AccessDenied, Client, Connection, Document, EditsRejected, Mode, Settings, Status, Unreachable
from tests.harness.server_process import ServerProcess

Mint = Callable[..., str]

PATIENCE = 20.0
"""Seconds after which a test gives up."""


def text_of(document: Document) -> Text:
    text: Text = document.ydoc.get("text", type=Text)
    return text


async def reaches(document: Document, condition: Callable[[Status], bool]) -> Status:
    async with asyncio.timeout(PATIENCE):
        async for status in document.changes():
            if condition(status):
                return status
    raise AssertionError("statuses never end")


async def shows(document: Document, content: str) -> None:
    changed = asyncio.Event()
    subscription = document.ydoc.observe(lambda _: changed.set())
    async with asyncio.timeout(PATIENCE):
        while str(text_of(document)) != content:
            changed.clear()
            await changed.wait()
    document.ydoc.unobserve(subscription)


def is_live(status: Status) -> bool:
    return status.connection is Connection.LIVE


async def synced(document: Document) -> None:
    async with asyncio.timeout(PATIENCE):
        await document.synced()


async def test_two_people_see_each_other_type(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        mine, theirs = await a.open("nötes 波"), await b.open("nötes 波")
        await reaches(mine, is_live)
        await reaches(theirs, is_live)
        text_of(mine).insert(0, "hello")
        await shows(theirs, "hello")
        text_of(theirs).insert(5, " you")
        await shows(mine, "hello you")
        await synced(mine)
        await synced(theirs)
        assert a.unsynced() == b.unsynced() == {}


async def test_live_edits_are_confirmed_by_their_echo_alone(server: ServerProcess, tmp_path: Path) -> None:
    patient = Settings(confirm_after=3600.0)
    async with Client(server.url, path=tmp_path / "a", settings=patient) as client:
        document = await client.open("notes")
        await reaches(document, is_live)
        for _ in range(200):
            text_of(document).insert(0, "x")
        assert document.status.unsynced == 200
        await synced(document)
        assert len(client._outbox.load("notes").updates) == 200, "an echo is no news"


async def test_an_echo_that_does_not_come_is_replaced_by_a_receipt(
    server: ServerProcess, tmp_path: Path, quick: Settings
) -> None:
    async with Client(server.url, path=tmp_path / "a", settings=quick) as client:
        document = await client.open("notes")
        await reaches(document, is_live)
        # The server acknowledges an update whose causes it lacks with an empty one, once it has them.
        client._outbox.record("notes", [b"\x01\x01\x07\x05\x84\x07\x04\x01x\x00"])
        document._replica.outgoing.set()
        rejected = (await reaches(document, lambda status: bool(status.rejected))).rejected
        assert [each.code for each in rejected] == ["missing-causes"]


async def test_edits_go_on_through_a_killed_server(server: ServerProcess, tmp_path: Path, quick: Settings) -> None:
    async with (
        Client(server.url, path=tmp_path / "a", settings=quick) as a,
        Client(server.url, path=tmp_path / "b", settings=quick) as b,
    ):
        mine, theirs = await a.open("notes"), await b.open("notes")
        text = text_of(mine)
        for number in range(5):
            await reaches(mine, is_live)
            text += f"{number} before "
            server.kill()
            text += f"{number} after "
            assert isinstance((await reaches(mine, lambda status: status.problem is not None)).problem, Unreachable)
            await asyncio.to_thread(server.start)
        await synced(mine)
        await shows(theirs, str(text))
        assert mine.status.rejected == ()


async def test_a_server_that_stops_properly_is_met_again(server: ServerProcess, tmp_path: Path, quick: Settings) -> None:
    async with Client(server.url, path=tmp_path / "a", settings=quick) as client:
        document = await client.open("notes")
        await reaches(document, is_live)
        assert await asyncio.to_thread(server.stop) == 0
        await reaches(document, lambda status: status.connection is Connection.OFFLINE)
        text_of(document).insert(0, "meanwhile")
        await asyncio.to_thread(server.start)
        await synced(document)
        await reaches(document, is_live)


async def test_a_connection_that_went_silent_is_dropped(server: ServerProcess, tmp_path: Path, quick: Settings) -> None:
    impatient = replace(quick, heartbeat=0.2, request_timeout=1.0)
    async with Client(server.url, path=tmp_path / "a", settings=impatient) as client:
        document = await client.open("notes")
        await reaches(document, is_live)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            text_of(document).insert(0, "into silence")
            status = await reaches(document, lambda status: not is_live(status))
            assert isinstance(status.problem, Unreachable)
            assert status.unsynced == 1
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await synced(document)


async def test_offline_and_online_by_choice(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        mine, theirs = await a.open("notes", Mode.OFFLINE), await b.open("notes")
        await reaches(theirs, is_live)
        text_of(mine).insert(0, "offline ")
        text_of(theirs).insert(0, "online ")
        await synced(theirs)
        assert (mine.status.connection, mine.status.unsynced) == (Connection.OFFLINE, 1)
        await mine.switch(Mode.LIVE)
        await synced(mine)
        await reaches(mine, is_live)
        await shows(theirs, str(text_of(mine)))
        assert sorted(str(text_of(mine)).split()) == ["offline", "online"]
        assert await a.open("notes", Mode.OFFLINE) is mine
        assert mine.status.connection is Connection.OFFLINE


async def test_a_viewer_reads_live_and_sees_its_edits_refused(
    guarded: ServerProcess, mint: Mint, tmp_path: Path, quick: Settings
) -> None:
    async with (
        Client(guarded.url, path=tmp_path / "a", token=mint("editor", "notes"), settings=quick) as a,
        Client(guarded.url, path=tmp_path / "b", token=mint("viewer", "notes"), settings=quick) as b,
    ):
        mine, theirs = await a.open("notes"), await b.open("notes")
        await reaches(theirs, is_live)
        text_of(mine).insert(0, "for you to read")
        await shows(theirs, "for you to read")
        text_of(theirs).insert(0, "not ")
        status = await reaches(theirs, lambda status: bool(status.rejected))
        assert [each.code for each in status.rejected] == ["forbidden"]
        assert status.unsynced == 0
        text_of(mine).insert(len("for you to read"), " still")
        await shows(theirs, "not for you to read still")
        other = await b.open("another document")
        denied = await reaches(other, lambda status: status.problem is not None)
        assert isinstance(denied.problem, AccessDenied)


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.PUSH])
async def test_who_waits_for_edits_that_are_refused_is_told(
    guarded: ServerProcess, mint: Mint, tmp_path: Path, quick: Settings, mode: Mode
) -> None:
    token = mint("viewer", "notes")

    async def source() -> str:
        return token

    async with Client(guarded.url, path=tmp_path / "a", token=source, settings=quick) as client:
        document = await client.open("notes", mode)
        await synced(document)
        for word in ("not ", "mine"):
            text_of(document).insert(0, word)
        with pytest.raises(EditsRejected, match="2 edits of 'notes'") as caught:
            await synced(document)
        assert caught.value.rejected == document.status.rejected
        assert [each.code for each in caught.value.rejected] == ["forbidden", "forbidden"]
        with pytest.raises(EditsRejected):
            await synced(document)
        token = mint("editor", "notes")
        client._endpoint.forget_token()
        await document.retry_rejected()
        await synced(document)


async def test_a_token_that_ends_is_asked_for_again(
    guarded: ServerProcess, mint: Mint, tmp_path: Path, quick: Settings
) -> None:
    asked = 0

    def source() -> str:
        nonlocal asked
        asked += 1
        return mint("editor", lasts=1.0 if asked == 1 else 600.0)

    async with Client(guarded.url, path=tmp_path / "a", token=source, settings=quick) as client:
        document = await client.open("notes")
        await reaches(document, is_live)
        status = await reaches(document, lambda status: isinstance(status.problem, AccessDenied))
        assert "the server closed the socket: the token has expired" in str(status.problem)
        text_of(document).insert(0, "later")
        await synced(document)
        assert asked == 2


async def test_push_mode_sends_by_itself_and_comes_back_after_an_outage(
    server: ServerProcess, tmp_path: Path, quick: Settings
) -> None:
    async with (
        Client(server.url, path=tmp_path / "a", settings=quick) as a,
        Client(server.url, path=tmp_path / "b", settings=quick) as b,
    ):
        mine, theirs = await a.open("notes", Mode.PUSH), await b.open("notes", Mode.PUSH)
        text_of(mine).insert(0, "one")
        await synced(mine)
        await shows(theirs, "one")
        server.kill()
        text_of(mine).insert(3, " two")
        await reaches(mine, lambda status: isinstance(status.problem, Unreachable))
        assert mine.status.unsynced == 1
        await asyncio.to_thread(server.start)
        await synced(mine)
        await shows(theirs, "one two")
