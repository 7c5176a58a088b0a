"""A process that appends to a store and prints what was acknowledged, until it is done or killed.

    python -m tests.contracts.writer OPENER ADDRESS NAME DOCUMENTS COMMITS

OPENER is `module:function`, an async function that opens a store at ADDRESS. Each commit appends to some documents of
`shared-0`, `shared-1`, ...; a line `document TAB seq TAB update` follows for every entry it made durable.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import sys

from sync.rooms.ports import Append, Appended, Draft, Store

LINEAGE = "shared"


async def write(store: Store, name: str, documents: int, commits: int) -> None:
    """Append `commits` batches, learning the heads from conflicts as a node does."""
    chance = random.Random(name)
    heads = {f"shared-{index}": 0 for index in range(documents)}
    count = 0
    for _ in range(commits):
        batch = []
        for document in chance.sample(sorted(heads), chance.randint(1, documents)):
            drafts = [Draft(f"{name}:{count + index}".encode(), name) for index in range(chance.randint(1, 3))]
            count += len(drafts)
            batch.append(Append(document, heads[document], drafts, LINEAGE))
        lines = []
        for append, answer in zip(batch, await store.append(batch), strict=True):
            heads[append.document] = answer.head
            if isinstance(answer, Appended):
                first = answer.head - len(append.drafts) + 1
                for seq, draft in enumerate(append.drafts, first):
                    lines.append(f"{append.document}\t{seq}\t{draft.update.decode()}\n")
        sys.stdout.write("".join(lines))
        sys.stdout.flush()


async def main(opener: str, address: str, name: str, documents: str, commits: str) -> None:
    """Open, write, close."""
    module, function = opener.split(":")
    store = await getattr(importlib.import_module(module), function)(address)
    try:
        await write(store, name, int(documents), int(commits))
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
