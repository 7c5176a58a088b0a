"""The outbox against a real server: receipts, refusals, and what others wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pycrdt import Text

from ebbtide_client import (
    AccessDenied,
    Client,
    Connection,
    Document,
    LineageDiffers,
    Mode,
    OutboxFailed,
    OutboxInUse,
    Settings,
)
from tests.harness.server_process import ServerProcess

Mint = Callable[[str], str]
OFFLINE = Mode.OFFLINE
PATIENCE = 20.0
"""Seconds after which a test gives up."""


def text_of(document: Document) -> Text:
    text: Text = document.ydoc.get("text", type=Text)
    return text


async def test_edits_reach_the_server_and_another_device(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        mine, theirs = await a.open("nötes/ü", OFFLINE), await b.open("nötes/ü", OFFLINE)
        text = text_of(mine)
        text += "grüße "
        text += "from a"
        pushed = await mine.push()
        assert (pushed.applied, pushed.duplicate, pushed.rejected, pushed.requests) == (2, 0, 0, 1)
        assert mine.status.unsynced == 0
        await theirs.push()
        assert str(text_of(theirs)) == "grüße from a"


async def test_two_devices_that_wrote_offline_converge(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        mine, theirs = await a.open("notes", OFFLINE), await b.open("notes", OFFLINE)
        for document, word in ((mine, "mine "), (theirs, "theirs ")):
            for letter in word:
                text_of(document).insert(0, letter)
        await mine.push()
        await theirs.push()
        await mine.push()
        assert str(text_of(mine)) == str(text_of(theirs))
        assert len(str(text_of(mine))) == len("mine theirs ")


async def test_more_documents_than_a_server_gives_at_once_are_asked_for_in_groups(
    server: ServerProcess, tmp_path: Path
) -> None:
    names = [f"d{number:04}" for number in range(1100)]
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        for name in names:
            document = await a.open(name, OFFLINE)
            text = text_of(document)
            text += name
        pushed = await a.push()
        assert (pushed.applied, a.unsynced()) == (1100, {})
        theirs = [await b.open(name, OFFLINE) for name in names]
        assert (await b.push()).requests == 3
        assert [str(text_of(document)) for document in theirs] == names


async def test_what_one_answer_has_no_room_for_is_asked_for_again(server: ServerProcess, tmp_path: Path) -> None:
    names = [f"large{number}" for number in range(6)]
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        for name in names:
            text = text_of(await a.open(name, OFFLINE))
            text += name * 800_000
        await a.push()
        theirs = [await b.open(name, OFFLINE) for name in names]
        assert (await b.push()).requests == 2
        assert [len(str(text_of(document))) for document in theirs] == [800_000 * len(name) for name in names]


async def test_batches_are_bounded_by_count_and_by_bytes(server: ServerProcess, tmp_path: Path) -> None:
    by_count = Settings(batch_entries=4)
    by_bytes = Settings(batch_bytes=2000)
    for name, settings, requests in (("count", by_count, 3), ("bytes", by_bytes, 10)):
        async with Client(server.url, path=tmp_path / name, settings=settings) as client:
            document = await client.open(name, OFFLINE)
            for _ in range(10):
                text_of(document).insert(0, "x" * 1500)
            pushed = await document.push()
            assert (pushed.requests, pushed.applied) == (requests, 10)
            assert document.status.unsynced == 0


async def test_a_push_can_be_bounded_to_the_oldest_edits(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as a, Client(server.url, path=tmp_path / "b") as b:
        mine, theirs = await a.open("notes", OFFLINE), await b.open("notes", OFFLINE)
        text = text_of(mine)
        for letter in "abcde":
            text += letter
        assert (await mine.push(at_most=3)).applied == 3
        assert mine.status.unsynced == 2
        await theirs.push()
        assert str(text_of(theirs)) == "abc"
        assert (await mine.push(at_most=0)).applied == 0


async def test_edits_of_a_document_that_is_not_open_are_pushed_too(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as client:
        document = await client.open("notes", OFFLINE)
        text_of(document).insert(0, "x")
    async with Client(server.url, path=tmp_path / "a") as client:
        assert client.unsynced() == {"notes": 1}
        assert (await client.push()).applied == 1
        assert client.unsynced() == {}


async def test_an_edit_that_was_taken_without_an_answer_is_a_duplicate(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as client:
        document = await client.open("notes", OFFLINE)
        text_of(document).insert(0, "once")
        [entry] = client._outbox.pending(["notes"], 0, 10, 1000)
        await document.push()
        client._outbox.record("notes", [entry.update])
        pushed = await client.push()
        assert (pushed.applied, pushed.duplicate) == (0, 1)
        assert client.unsynced() == {}


async def test_a_bad_entry_is_set_aside_and_blocks_nothing(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a") as client:
        client._outbox.record("notes", [b"no update"])
        client._outbox._db.execute("DELETE FROM log")
        document = await client.open("notes", OFFLINE)
        text_of(document).insert(0, "good")
        pushed = await document.push()
        assert (pushed.applied, pushed.rejected) == (1, 1)
        assert document.status.unsynced == 0
        [rejected] = document.status.rejected
        assert (rejected.code, rejected.update) == ("malformed-update", b"no update")
        assert rejected.reason
        assert (await document.push()).rejected == 0


async def test_what_is_too_large_is_set_aside_however_it_is_found(tmp_path: Path) -> None:
    limits = ("--max-update-bytes", "10KiB", "--max-push-bytes", "40KiB")
    with ServerProcess(tmp_path / "data", *limits) as server:
        async with Client(server.url, path=tmp_path / "a") as client:
            small, large = await client.open("small", OFFLINE), await client.open("large", OFFLINE)
            huge = await client.open("huge", OFFLINE)
            text_of(large).insert(0, "x" * 20_000)
            text_of(huge).insert(0, "x" * 100_000)
            for _ in range(10):
                text_of(small).insert(0, "x" * 9_000)
            pushed = await client.push()
            assert (pushed.applied, pushed.rejected) == (10, 2)
            assert [r.code for r in large.status.rejected] == ["update-too-large"]
            assert len(huge.status.rejected) == 1
            assert (small.status.unsynced, small.status.rejected) == (0, ())


async def test_rejected_edits_survive_a_restart_and_can_be_retried(guarded: ServerProcess, mint: Mint, tmp_path: Path) -> None:
    async with Client(guarded.url, path=tmp_path / "a", token=mint("viewer")) as client:
        document = await client.open("notes", OFFLINE)
        text = text_of(document)
        text += "not "
        text += "mine"
        assert (await document.push()).rejected == 2
    async with Client(guarded.url, path=tmp_path / "a", token=mint("editor")) as client:
        document = await client.open("notes", OFFLINE)
        assert [rejected.code for rejected in document.status.rejected] == ["forbidden", "forbidden"]
        assert await document.retry_rejected() == 2
        assert document.status.unsynced == 2
        assert (await document.push()).applied == 2
        assert document.status.rejected == ()
    async with Client(guarded.url, path=tmp_path / "b", token=mint("viewer")) as client:
        document = await client.open("notes", OFFLINE)
        await document.push()
        assert str(text_of(document)) == "not mine"


async def test_a_refused_token_is_asked_for_again(guarded: ServerProcess, mint: Mint, tmp_path: Path) -> None:
    tokens = iter(["nonsense", mint("editor"), "never asked for"])

    async def source() -> str:
        return next(tokens)

    async with Client(guarded.url, path=tmp_path / "a", token=source) as client:
        document = await client.open("notes", OFFLINE)
        text_of(document).insert(0, "x")
        assert (await document.push()).applied == 1
        await document.push()
        assert next(tokens) == "never asked for"
    async with Client(guarded.url, path=tmp_path / "b", token="nonsense") as client:
        document = await client.open("notes", OFFLINE)
        with pytest.raises(AccessDenied):
            await document.push()


async def test_a_document_made_anew_is_not_mixed_and_its_edits_are_handed_out(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "one") as server:
        async with Client(server.url, path=tmp_path / "a") as client:
            document = await client.open("notes", OFFLINE)
            text_of(document).insert(0, "old")
            await document.push()
    with ServerProcess(tmp_path / "two") as server:
        async with Client(server.url, path=tmp_path / "b") as client:
            document = await client.open("notes", OFFLINE)
            text_of(document).insert(0, "new")
            await document.push()
        async with Client(server.url, path=tmp_path / "a") as client:
            document = await client.open("notes", OFFLINE)
            text_of(document).insert(3, " and unsynced")
            with pytest.raises(LineageDiffers):
                await document.push()
            assert str(text_of(document)) == "old and unsynced"
            assert document.status.unsynced == 1
            await document.switch(Mode.LIVE)
            with pytest.raises(LineageDiffers):
                await document.synced()
            assert len(await client.discard("notes")) == 1
            with pytest.raises(OutboxFailed), document.edit():
                text_of(document).insert(0, "lost?")
            again = await client.open("notes", OFFLINE)
            await again.push()
            assert str(text_of(again)) == "new"


async def test_a_server_that_lost_edits_gets_them_back(tmp_path: Path) -> None:
    """A store restored from an older backup has the lineage and not the newest edits."""
    async with Client("http://127.0.0.1:1", path=tmp_path / "a") as client:
        document = await client.open("notes", OFFLINE)
        text = text_of(document)
        text += "lost "
        text += "and kept"
        first, _ = client._outbox.pending(["notes"], 0, 10, 1000)
        client._outbox.remove([first.id])
    with ServerProcess(tmp_path / "data") as server:
        async with Client(server.url, path=tmp_path / "a") as client:
            pushed_closed = await client.push()
            assert pushed_closed.rejected == 1, "a document that is not open cannot supply what is missing"
            document = await client.open("notes", OFFLINE)
            await document.retry_rejected()
            assert (await document.push()).rejected == 0
            assert document.status.unsynced == 0
        async with Client(server.url, path=tmp_path / "b") as client:
            document = await client.open("notes", OFFLINE)
            await document.push()
            assert str(text_of(document)) == "lost and kept"


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.PUSH])
@pytest.mark.parametrize("edited", [True, False])
async def test_a_server_that_lost_a_document_gets_it_back_as_what_it_was(
    tmp_path: Path, mode: Mode, edited: bool, quick: Settings
) -> None:
    for name in ("one", "two"):
        # On the second server there is nothing of it.
        with ServerProcess(tmp_path / name) as server:
            async with Client(server.url, path=tmp_path / "a", settings=quick) as a, asyncio.timeout(PATIENCE):
                mine = await a.open("notes", OFFLINE)
                if edited or name == "one":
                    text_of(mine).insert(0, name)
                await mine.switch(mode)
                async for status in mine.changes():
                    if status.connection in (Connection.LIVE, Connection.PUSHING) and not status.unsynced:
                        break
                (lineage,) = a._outbox._db.execute("SELECT lineage FROM lineage").fetchone()
            async with Client(server.url, path=tmp_path / name / "b") as b:
                theirs = await b.open("notes", OFFLINE)
                await theirs.push()
                assert str(text_of(theirs)) == str(text_of(mine))
                assert b._outbox._db.execute("SELECT lineage FROM lineage").fetchone() == (lineage,)


async def test_a_reader_of_a_document_that_the_server_lost_is_not_blamed(
    guarded: ServerProcess, mint: Mint, tmp_path: Path
) -> None:
    async with Client(guarded.url, path=tmp_path / "a", token=mint("editor")) as a:
        mine = await a.open("notes", OFFLINE)
        text_of(mine).insert(0, "lost")
        await mine.push()
    guarded.kill()
    for file in guarded.data.glob("ebbtide.sqlite*"):
        file.unlink()
    guarded.start()
    async with Client(guarded.url, path=tmp_path / "a", token=mint("viewer")) as a:
        mine = await a.open("notes", OFFLINE)
        pushed = await mine.push()
        assert (pushed.rejected, mine.status.unsynced, mine.status.rejected) == (0, 0, ())
        assert str(text_of(mine)) == "lost"


async def test_one_outbox_has_one_client(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.url, path=tmp_path / "a"):
        with pytest.raises(OutboxInUse):
            async with Client(server.url, path=tmp_path / "a"):
                pass
