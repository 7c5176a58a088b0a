from __future__ import annotations

import io

import pytest

from server.archive import report
from server.archive.report import Report


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[str]:
    """What stands on a terminal in the end, each line as it was when it was left."""
    return [line.rpartition("\r")[2].rstrip() for line in stream.getvalue().split("\n")]


def test_a_terminal_has_a_bar_that_replaces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "TERMINAL_SECONDS", 0.0)
    stream = Terminal()
    shown = Report("backup", stream)
    shown.total = 4
    shown.advance(entries=10, size=3 << 20)
    shown.advance(documents=1)
    bar = f"{'=' * 8:30}"
    assert lines(stream) == [f"backup [{bar}]  25%  1 document, 10 entries, 3.0 MiB"]
    shown.trouble("d", "entries-missing", "entry 3 is not there")
    assert lines(stream) == ["ebbtide: entries-missing: d: entry 3 is not there", ""]
    shown.advance(documents=3)
    shown.end()
    assert lines(stream)[-1] == ""
    assert f"[{'=' * 30}] 100%  4 documents" in stream.getvalue()


def test_elsewhere_it_is_lines_and_few() -> None:
    stream = io.StringIO()
    shown = Report("copy", stream)
    for _ in range(1000):
        shown.advance(documents=1, entries=1234, size=1)
    assert stream.getvalue() == ""
    shown.end()
    assert stream.getvalue() == ""
    assert shown.counts() == "1,000 documents, 1,234,000 entries, 1000 bytes"


def test_lines_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LINE_SECONDS", 0.0)
    stream = io.StringIO()
    shown = Report("copy", stream)
    shown.advance(documents=1, size=5 << 30)
    shown.total = 2
    shown.advance(documents=1)
    assert stream.getvalue().splitlines() == [
        "ebbtide: copy: 1 document, 0 entries, 5.0 GiB",
        "ebbtide: copy: 2 of 2 documents, 0 entries, 5.0 GiB",
    ]


def test_one_is_one() -> None:
    shown = Report("verify", io.StringIO())
    shown.advance(documents=1, entries=1)
    assert shown.counts() == "1 document, 1 entry, 0 bytes"
