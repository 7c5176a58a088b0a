"""`python -m tests.e2e.demo [--trace FILE]`: two people type at the same time, a server dies, and nothing is lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.demo.author import Author
from tests.e2e.demo.progress import Progress
from tests.e2e.demo.replay import Replay
from tests.e2e.demo.session import CLIENT_IDS, Session, load, make_up
from tests.harness.server_process import ServerProcess

MADE_UP_EDITS = 4000


async def demo(session: Session, seed: int) -> bool:
    """Replay the session in a folder of its own, print what came of it, and say whether all texts are right."""
    total = sum(map(len, session.authors))
    with tempfile.TemporaryDirectory(prefix="ebbtide-demo-") as folder, ServerProcess(Path(folder, "data")) as server:
        print(f"server on {server.url}, data in {folder}", flush=True)
        return await _replay(session, seed, total, server, Path(folder))


async def _replay(session: Session, seed: int, total: int, server: ServerProcess, folder: Path) -> bool:
    live, pushing = (Author(name, server.url, folder, id_) for name, id_ in zip(("live", "pushing"), CLIENT_IDS, strict=True))
    await live.start()
    await pushing.start()
    started = time.monotonic()
    replay = Replay(session, live, pushing, server, Progress(total), seed)
    try:
        await replay.run()
        taken = time.monotonic() - started
        # What the server holds is what it can read back: kill it once more, and ask as somebody new.
        server.kill()
        await asyncio.to_thread(server.start)
        newcomer = Author("newcomer", server.url, folder, max(CLIENT_IDS) + 1)
        await newcomer.start()
        try:
            await newcomer.push()
            texts = {author.name: str(author.text) for author in (live, pushing, newcomer)}
        finally:
            await newcomer.stop()
    finally:
        await live.stop()
        await pushing.stop()

    print(
        f"\n{total:,} edits in {taken:.1f} s ({total / taken:,.0f}/s)\n"
        f"live author: {live.connects - 1} reconnects, {replay.offline_periods} times offline by chance\n"
        f"pushing author: {pushing.pushed.requests:,} pushes, {pushing.pushed.applied:,} edits applied, "
        f"{pushing.pushed.duplicate:,} duplicate, {pushing.failures} pushes failed and were sent again, "
        f"{pushing.restarts} restarts of the client\n"
        f"server: killed {replay.kills} time half-way and once at the end"
    )
    names = {"live": "the live replica", "pushing": "the pushing replica", "newcomer": "the server"}
    for name, text in texts.items():
        print(f"{names[name]:20} {len(text):,} characters, {'as expected' if text == session.end else 'DIFFERENT'}")
    equal = all(text == session.end for text in texts.values())
    print("both replicas and the server hold the expected text" if equal else "FAILED: the texts differ")
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--trace", type=Path, metavar="FILE", help="a recorded session, instead of a made-up one")
    parser.add_argument("--limit", type=int, metavar="N", help="replay only the first N transactions of the trace")
    parser.add_argument("--edits", type=int, default=MADE_UP_EDITS, metavar="N", help="length of a made-up session")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of what happens by chance")
    options = parser.parse_args()
    try:
        session = make_up(options.seed, options.edits) if options.trace is None else load(options.trace, options.limit)
    except (OSError, ValueError) as error:
        print(f"{options.trace}: {error}", file=sys.stderr)
        return 2
    return 0 if asyncio.run(demo(session, options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
