"""`python -m tests.e2e.demo [--trace FILE]`: two people type at the same time, a server dies, and nothing is lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from pycrdt import Text

from tests.e2e.demo.author import TEXT, Author
from tests.e2e.demo.newcomer import fetch
from tests.e2e.demo.progress import Progress
from tests.e2e.demo.replay import EditsLost, Replay
from tests.e2e.demo.session import CLIENT_IDS, Session, load, make_up
from tests.harness.server_process import ServerProcess

MADE_UP_EDITS = 4000


async def demo(session: Session, seed: int, kind: type[ServerProcess] = ServerProcess) -> bool:
    """Replay the session in a folder of its own, print what came of it, and say whether nothing was lost.

    `kind` makes the server, and the one on the same data that is asked what was kept.
    """
    with tempfile.TemporaryDirectory(prefix="ebbtide-demo-") as folder:
        data = Path(folder, "data")
        witness = kind(data)
        try:
            with kind(data) as server:
                print(f"server on {server.url}, data in {folder}", flush=True)
                return await _replay(session, seed, server, witness, Path(folder))
        finally:
            witness.close()


async def _replay(session: Session, seed: int, server: ServerProcess, witness: ServerProcess, folder: Path) -> bool:
    total = sum(map(len, session.authors))
    live, pushing = (Author(name, server.url, folder, id_) for name, id_ in zip(("live", "pushing"), CLIENT_IDS, strict=True))
    await live.start()
    await pushing.start()
    started = time.monotonic()
    progress = Progress(total)
    replay = Replay(session, live, pushing, server, witness, folder, progress, seed)
    lost: EditsLost | None = None
    try:
        await replay.run()
        taken = time.monotonic() - started
        # What the server holds is what it can read back: kill it once more, and ask as somebody new.
        progress.say("SIGKILL to the server once more: what it can read back then is compared")
        server.kill()
        await asyncio.to_thread(server.start)
        newcomer = await fetch(server.url, folder / "newcomer.sqlite")
        texts = {
            "the live replica": str(live.text),
            "the pushing replica": str(pushing.text),
            "the server": str(newcomer.get(TEXT, type=Text)),
        }
    except* EditsLost as group:
        (lost,) = (error for error in group.exceptions if isinstance(error, EditsLost))
    finally:
        await live.stop()
        await pushing.stop()
    if lost is not None:
        print(f"FAILED: {lost}")
        return False

    print(
        f"\n{total:,} edits in {taken:.1f} s ({total / taken:,.0f}/s)\n"
        f"live author: {live.connects - 1} reconnects, {replay.offline_periods} times offline by chance\n"
        f"pushing author: {pushing.pushed.requests:,} pushes, {pushing.pushed.applied:,} edits applied, "
        f"{pushing.pushed.duplicate:,} duplicate, {pushing.failures} pushes failed and were sent again, "
        f"{pushing.restarts} restarts of the client\n"
        f"server: killed {replay.kills} time half-way and once at the end"
    )
    for name, text in texts.items():
        print(f"{name:20} {len(text):,} characters, {'as expected' if text == session.end else 'DIFFERENT'}")
    equal = all(text == session.end for text in texts.values())
    print("both replicas and the server hold the expected text" if equal else "FAILED: the texts differ")
    if not replay.kills:
        print("FAILED: the session was over before the server could be killed half-way; choose a longer one")
    return equal and replay.kills == 1


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
