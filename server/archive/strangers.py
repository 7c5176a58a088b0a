"""What may be in a store before it is filled: nothing, or beginnings of what it is to hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from server.archive.errors import ArchiveDamaged, TargetNotEmpty
from server.archive.logs import DocumentLog
from server.archive.worklist import CHANGES_PAGE
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Adoption, Conflict, Store


async def refuse_strangers(target: Store, log_of: Callable[[str], Awaitable[DocumentLog | None]], advice: str) -> None:
    """Look at every document of the store; writes nothing. `log_of` gives what is to be put there under that name, if anything.

    Raises `TargetNotEmpty`, which ends with `advice`, at the first document that is another than the one to be put there, by
    its lineage, or is longer.
    """
    cursor, more = 0, True
    while more:
        page = await target.changes(cursor, CHANGES_PAGE)
        for document, head in page.changes:
            try:
                log = await log_of(document)
            except (ArchiveDamaged, StoreCorrupted):
                # Nothing is put there either, and whoever was to do it says why.
                continue
            if log is None:
                raise TargetNotEmpty(document, "", advice)
            if head > log.head:
                raise TargetNotEmpty(document, f" up to entry {head}, and {log.head} are to be there", advice)
            # A question: to begin a log that is there changes nothing, and says whose it is.
            (there,) = await target.adopt([Adoption(document, head, (), log.lineage)])
            if isinstance(there, Conflict) and there.lineage != log.lineage:
                raise TargetNotEmpty(document, ", and it is another document of that name", advice)
        cursor, more = page.cursor, page.more
