"""What tests found out beside whether they pass: it is told when all have run, whoever ran them and captured their output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

Observe = Callable[[str], None]
"""Takes one line, which has to say what it is about."""

_PROPERTY = "observed"


def observer(node: pytest.Item) -> Observe:
    """For the test that is `node`. What it observed goes along with its report, which pytest-xdist hands on."""
    return lambda line: node.user_properties.append((_PROPERTY, line))


def observed(reports: Iterable[object]) -> Iterator[str]:
    """The lines that tests observed before they passed or failed, in the order of their reports."""
    for report in reports:
        # The report of a test's teardown has its lines once more.
        if isinstance(report, pytest.TestReport) and report.when == "call":
            yield from (str(line) for name, line in report.user_properties if name == _PROPERTY)
