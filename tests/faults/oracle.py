"""What must be true after any fault: nothing acknowledged is lost, nothing is there twice, everybody has the same.

The tests in this folder differ in the fault alone. People edit before, during and after it; then `judge` decides.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import pycrdt

from sync.rooms.errors import StoreUnavailable
from sync.rooms.ports import Entry, Store
from tests.faults.editor import Editor, Noticed, tokens
from tests.faults.live import CollabEditor, QuietEditor, WebSocketEditor
from tests.faults.pusher import PATIENCE_LOST, Pusher

PATIENCE = 60.0
"""Seconds until what does not come counts as never coming."""

PAGE = 500


class People:
    """Live editors on every node, in documents that are busy and one that is not, and pushers between the nodes.

    An async context manager: they work inside.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are of the nodes. Live editors go to another node only when they lose theirs."""
        self.editors: list[Editor] = []
        for index, url in enumerate(urls):
            order = [url, *urls[index + 1 :], *urls[:index]]
            self.editors.append(WebSocketEditor(f"ws-{index}", "one", order))
            self.editors.append(CollabEditor(f"collab-{index}", "two", order))
            self.editors.append(QuietEditor(f"quiet-{index}", "quiet", order))
        self.editors += [Pusher(f"push-{document}", document, urls) for document in ("one", "two")]
        self._done = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(editor.work(self._done)) for editor in self.editors]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    @property
    def documents(self) -> list[str]:
        return sorted({editor.document for editor in self.editors})

    def errors(self) -> Counter[str]:
        """What anybody noticed but waiting: close codes, problem codes, and kinds of connections that failed."""
        errors = sum((editor.noticed.errors for editor in self.editors), Counter[str]())
        del errors[PATIENCE_LOST]
        return errors

    async def progress(self, edits: int = 10, among: Sequence[Editor] = ()) -> None:
        """Return when of each editor's edits from here on so many are acknowledged, of slow ones' fewer. `among` these only."""
        goals = {
            editor: editor.written + max(1, round(edits * Editor.PAUSE / editor.PAUSE)) for editor in among or self.editors
        }
        await self.until(lambda: all(goal - 1 in editor.acknowledged for editor, goal in goals.items()), "progress")

    async def exchange(self) -> None:
        """Return when everybody has what the others have written by now."""
        goals = {editor: editor.written for editor in self.editors if editor.written}

        def all_seen() -> bool:
            texts = {editor: editor.text for editor in self.editors}
            return all(
                f"<{editor.name}.{written - 1}>" in text
                for editor, written in goals.items()
                for reader, text in texts.items()
                if reader.document == editor.document
            )

        await self.until(all_seen, "exchange", pause=0.2)

    async def all_acknowledged(self) -> None:
        """Write no more, and return when everything written is acknowledged."""
        self._done.set()
        await self.until(lambda: not any(editor.unacknowledged() for editor in self.editors), "acknowledgements")

    async def until(self, true: Callable[[], bool], what: str, pause: float = 0.02) -> None:
        """Return when it is true. Fails, with the state of every editor, when that takes longer than patience lasts."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} in {PATIENCE:g} s:\n" + "\n".join(map(_line, self.editors)))
            await asyncio.sleep(pause)


async def audit(people: People, store: Callable[[], Awaitable[Store]]) -> None:
    """Look in the log for everything that is acknowledged now. Raises `AssertionError`.

    To be called when a fault has just begun: a client that comes back sends what the server lacks, lost or not.
    """
    acknowledged = {editor: frozenset(editor.acknowledged) for editor in people.editors}
    async with asyncio.timeout(PATIENCE):
        opened = await _opened(store)
        try:
            for document in people.documents:
                group = {editor: numbers for editor, numbers in acknowledged.items() if editor.document == document}
                check(f"the log of {document}", await logged(opened, document), group)
        finally:
            await opened.close()


async def _opened(store: Callable[[], Awaitable[Store]]) -> Store:
    while True:
        try:
            return await store()
        except StoreUnavailable:
            await asyncio.sleep(0.1)


async def judge(people: People, urls: Sequence[str], store: Callable[[], Awaitable[Store]], title: str) -> None:
    """Wait until everything is acknowledged and everywhere, then look for what is lost, doubled or different.

    `urls` are of nodes on which somebody comes in anew; `store` opens the store to read the log itself. Prints what users
    noticed and how long it took to converge from here. Raises `AssertionError`.
    """
    begun = time.monotonic()
    await people.all_acknowledged()
    for document in people.documents:
        group = [editor for editor in people.editors if editor.document == document]
        async with AsyncExitStack() as stack:
            newcomers: list[Editor] = [WebSocketEditor(f"new-{index}", document, [url]) for index, url in enumerate(urls)]
            for newcomer in newcomers:
                await stack.enter_async_context(_Watching(newcomer))
            replicas = [*group, *newcomers]
            await people.until(lambda replicas=replicas: len({r.text for r in replicas}) == 1, "agreement")  # type: ignore[misc]
            converged = time.monotonic() - begun
            for replica in replicas:
                check(f"the replica of {replica.name}", replica.text, {each: each.acknowledged for each in group})
    await audit(people, store)
    print(f"\n{title}: converged in {converged:.2f} s after the last edit")
    print(_noticed(people.editors))


class _Watching:
    """A newcomer that reads and writes nothing."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    async def __aenter__(self) -> None:
        done = asyncio.Event()
        done.set()
        self._task = asyncio.create_task(self._editor.work(done))

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def check(where: str, text: str, acknowledged: Mapping[Editor, Collection[int]]) -> None:
    """Every acknowledged edit is in the text, every edit is there once, and nothing else. Raises `AssertionError`."""
    found = Counter(tokens(text))
    lost = {(editor.name, number) for editor, numbers in acknowledged.items() for number in numbers} - set(found)
    assert not lost, f"{where} lacks {len(lost)} acknowledged edits, such as {sorted(lost)[:5]}"
    doubled = {token: count for token, count in found.items() if count > 1}
    assert not doubled, f"{where} has edits more than once: {doubled}"
    strange = set(found) - {(editor.name, number) for editor in acknowledged for number in range(editor.written)}
    assert not strange, f"{where} has edits that nobody wrote: {sorted(strange)[:5]}"


async def logged(store: Store, document: str) -> str:
    """The text that the document's log gives, entry by entry, after a look at whether it is whole."""
    # First, since others may be writing: the entries that follow hold at least what it was made of.
    loaded = await store.load(document)
    entries: list[Entry] = []
    while page := await store.read(document, len(entries), PAGE):
        entries += page
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), f"the log of {document} has holes"
    assert len(entries) >= loaded.head, f"the log of {document} is shorter than its head"
    states = [loaded.snapshot] if loaded.snapshot is not None else []
    then = _text([*states, *(entry.update for entry in loaded.entries)])
    assert then == _text(entry.update for entry in entries[: loaded.head]), f"snapshot and log of {document} differ"
    return _text(entry.update for entry in entries)


def _text(updates: Iterable[bytes]) -> str:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    text = doc.get("text", type=pycrdt.Text)
    for update in updates:
        doc.apply_update(update)
    return str(text)


def _noticed(editors: Iterable[Editor]) -> str:
    lines = []
    for kind in (WebSocketEditor, QuietEditor, CollabEditor, Pusher):
        users = [editor for editor in editors if type(editor) is kind]
        noticed = [user.noticed for user in users]
        errors = sum((each.errors for each in noticed), Counter[str]())
        lines.append(
            f"  {kind.__name__}: {sum(len(user.acknowledged) for user in users)} edits, "
            f"{sum(each.reconnects for each in noticed)} reconnects, "
            f"longest without acknowledgement {_longest(noticed, 'longest_unacknowledged')}, "
            f"without others' edits {_longest(noticed, 'longest_alone')}, errors {dict(errors) or 'none'}"
        )
    return "\n".join(lines)


def _longest(noticed: Iterable[Noticed], what: str) -> str:
    return f"{max(getattr(each, what) for each in noticed):.2f} s"


def _line(editor: Editor) -> str:
    waiting = editor.unacknowledged()
    return f"  {editor.name}: {editor.written} written, {len(waiting)} not acknowledged, {dict(editor.noticed.errors)}"
