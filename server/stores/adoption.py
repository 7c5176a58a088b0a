"""What every store refuses to adopt."""

from __future__ import annotations

from collections.abc import Sequence

from sync.rooms.ports import Adoption


def check_adoptions(batch: Sequence[Adoption]) -> None:
    """Raises `ValueError` for what `Store.adopt` calls a batch that is none."""
    if len({adoption.document for adoption in batch}) != len(batch):
        raise ValueError("a document occurs twice in a batch")
    for adoption in batch:
        numbers = [entry.seq for entry in adoption.entries]
        first = adoption.expected + 1
        if numbers != list(range(first, first + len(numbers))):
            raise ValueError(f"the entries to adopt are not numbered {first}, {first + 1}, ...")
        if not numbers and adoption.expected < 1:
            raise ValueError("an adoption has no entry, and no number to begin behind")
