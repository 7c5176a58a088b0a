"""People at work before, during and after a fault. The tests in this folder differ in the fault alone; then `judge` decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.faults.editor import Editor, edits_of
from tests.faults.live import CollabEditor, QuietEditor, WebSocketEditor
from tests.faults.pusher import PATIENCE_LOST, Pusher
from tests.harness import oracle
from tests.harness.crowd import Crowd


class People(Crowd):
    """Live editors on every node, in documents that are busy and one that is not, and pushers between the nodes."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are of the nodes. Live editors go to another node only when they lose theirs."""
        self.editors: list[Editor] = []
        for index, url in enumerate(urls):
            order = [url, *urls[index + 1 :], *urls[:index]]
            self.editors.append(WebSocketEditor(f"ws-{index}", "one", order))
            self.editors.append(CollabEditor(f"collab-{index}", "two", order))
            self.editors.append(QuietEditor(f"quiet-{index}", "quiet", order))
        self.editors += [Pusher(f"push-{document}", document, urls) for document in ("one", "two")]
        super().__init__([editor.work for editor in self.editors], lambda: "\n".join(map(_line, self.editors)))

    @property
    def documents(self) -> list[str]:
        return sorted({editor.document for editor in self.editors})

    @property
    def written(self) -> dict[str, frozenset[str]]:
        """The names of all edits that were made, by document."""
        return self._names(lambda editor: range(editor.written))

    @property
    def acknowledged(self) -> dict[str, frozenset[str]]:
        """The names of the edits of which the server said that they are durable, by document."""
        return self._names(lambda editor: editor.acknowledged)

    def _names(self, numbers: Callable[[Editor], Iterable[int]]) -> dict[str, frozenset[str]]:
        names: dict[str, set[str]] = {document: set() for document in self.documents}
        for editor in self.editors:
            names[editor.document].update(f"{editor.name}.{number}" for number in numbers(editor))
        return {document: frozenset(each) for document, each in names.items()}

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
        self.write_no_more()
        await self.until(lambda: not any(editor.unacknowledged() for editor in self.editors), "acknowledgements")


async def audit(people: People, store: oracle.OpenStore) -> None:
    """Look in the log for everything that is acknowledged now. Raises `AssertionError`.

    To be called when a fault has just begun: a client that comes back sends what the server lacks, lost or not.
    """
    await oracle.audit(people.acknowledged, people, store, edits_of)


async def judge(people: People, urls: Sequence[str], store: oracle.OpenStore) -> str:
    """Wait until everything is acknowledged and everywhere, then look for what is lost, doubled or different.

    `urls` are of nodes on which somebody comes in anew; `store` opens the store to read the log itself. Returns, in one line,
    how long it took to converge from here and what users noticed. Raises `AssertionError`.
    """
    await people.all_acknowledged()
    newcomers = [
        WebSocketEditor(f"new-{index}", document, [url]) for index, url in enumerate(urls) for document in people.documents
    ]
    for newcomer in newcomers:
        people.join(newcomer.work)
    converged = await oracle.converge(people, [*people.editors, *newcomers], people)
    await audit(people, store)
    return f"converged in {converged:.2f} s after the last edit; {_noticed(people.editors)}"


def _noticed(editors: Sequence[Editor]) -> str:
    """Of quiet people it does not count how long they heard nothing: they are quiet."""
    noticed = [editor.noticed for editor in editors]
    errors = sum((each.errors for each in noticed), Counter[str]())
    unacknowledged = max(each.longest_unacknowledged for each in noticed)
    alone = max(editor.noticed.longest_alone for editor in editors if not isinstance(editor, QuietEditor))
    return (
        f"{sum(len(editor.acknowledged) for editor in editors)} edits, the longest wait {unacknowledged:.2f} s for an "
        f"acknowledgement and {alone:.2f} s for others' edits, {sum(each.reconnects for each in noticed)} reconnects, "
        f"errors: {', '.join(f'{what}: {count}' for what, count in sorted(errors.items())) or 'none'}"
    )


def _line(editor: Editor) -> str:
    waiting = editor.unacknowledged()
    return f"  {editor.name}: {editor.written} written, {len(waiting)} not acknowledged, {dict(editor.noticed.errors)}"
