"""From one store into another: moving house."""

from __future__ import annotations

from contextlib import closing

from server.archive.logs import StoreLog
from server.archive.report import Report
from server.archive.strangers import refuse_strangers
from server.archive.transfer import Transfer
from server.archive.worklist import list_changes
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Store


async def copy(source: Store, target: Store, report: Report) -> None:
    """Put all documents of `source` into `target`, up to their heads when this began or beyond.

    The target must be empty or hold what an earlier copy from this source put there: made again, it goes on. A document that
    cannot be read is reported.

    Raises `TargetNotEmpty` before anything was written, and `StoreUnavailable`.
    """
    await refuse_strangers(target, lambda document: StoreLog.open(source, document), "copy into an empty one")
    transfer = Transfer(target, report)
    with closing(await list_changes(source, 0)) as work:
        report.total = len(work)
        for document, _ in work:
            try:
                log = await StoreLog.open(source, document)
            except StoreCorrupted as error:
                report.trouble(document, error.code, error.reason)
                report.advance(left=1)
                continue
            if log is not None:
                await transfer.put(log)
        await transfer.finish()
