"""`ebbtide serve`: a server, and an orderly end at a signal."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from server.app import close_app, make_app
from server.config import Config, parse
from server.logs import configure
from server.memory import deepen_stack
from server.open_files import raise_limit, warn_of_limit
from server.web.context import ROOMS, SOCKETS
from server.web.runner import Runner
from server.workers.meeting import make_meeting_place
from server.workers.reservation import ReservedPort
from server.workers.supervisor import Supervisor, Worker
from sync.rooms.errors import RoomError

log = logging.getLogger("ebbtide")

BACKLOG = 1024
"""Connections that the kernel holds until they are accepted: a whole office may come back at once."""

KEEPALIVE_SECONDS = 30.0
"""How long a connection may be open without a whole request, before the first and between two."""

CLOSE_SECONDS = 5.0
"""How long it may take at the end to close connections and files; nothing durable depends on it."""

ENDING_SECONDS = CLOSE_SECONDS + 5.0
"""How much longer than their own bounds workers may take to end before they are killed."""

CLOSING_SHARE = 0.2
"""Of the time for a shutdown, the part over which sockets are closed. The rest is for commits that are slow."""


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal ends it; the exit status. Raises `ConfigError`."""
    config = parse(argv, environ)
    configure(config.log_format, config.log_level)
    deepen_stack()
    raise_limit()
    return _run(config) if config.workers == 1 else _run_workers(config)


def _run(config: Config, worker: Worker | None = None) -> int:
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(serve(config, worker))


def _run_workers(config: Config) -> int:
    """The parent of the workers: it holds the port, and has a folder where they meet."""
    try:
        port = ReservedPort(config.host, config.port)
    except OSError as error:
        return _cannot_listen(config, error)
    config = replace(config, port=port.port)

    def work(worker: Worker) -> int:
        configure(config.log_format, config.log_level, worker=worker.number)
        return _run(config, worker)

    limits = config.limits
    patience = limits.drain_notice_seconds + limits.drain_seconds + ENDING_SECONDS
    with make_meeting_place() as folder:
        return Supervisor(config.workers, Path(folder), work, lambda: _listening(config, config.port), patience).run()


async def serve(config: Config, worker: Worker | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or until the worker's parent is gone; the exit status."""
    try:
        app = await make_app(config, worker)
    except RoomError as error:
        print(f"ebbtide: {error.reason}", file=sys.stderr)
        # The others serve meanwhile: what passes by itself is no reason to end them.
        return 1 if worker and worker.again and error.transient else 2
    except OSError as error:
        print(f"ebbtide: the folder {config.data} cannot be used: {_why_no_folder(error)} with --data", file=sys.stderr)
        return 2
    stop, alone = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    if worker:

        def orphaned(parent: socket.socket) -> None:
            loop.remove_reader(parent)
            log.error("the parent is gone, so this worker ends too")
            alone.set()
            stop.set()

        loop.add_reader(worker.parent, orphaned, worker.parent)
    runner = Runner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=1.0,
        tcp_keepalive=True,
        keepalive_timeout=KEEPALIVE_SECONDS,
    )
    await runner.setup()
    site = web.TCPSite(runner, config.host, config.port, backlog=BACKLOG, reuse_port=worker is not None)
    try:
        await site.start()
    except OSError as error:
        await _close(app)
        return _cannot_listen(config, error)
    # Modules and the application live as long as the process; what follows is mostly acyclic and freed by counting.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    if worker:
        worker.serves()
    else:
        _listening(config, runner.addresses[0][1])
    committer = app[ROOMS].committer.task
    waiter = loop.create_task(stop.wait())
    watch = loop.create_task(app[SOCKETS].watch())
    await asyncio.wait({waiter, watch, committer}, return_when=asyncio.FIRST_COMPLETED)
    app[SOCKETS].leaving = True
    if waiter.done():
        notice = config.limits.drain_notice_seconds
        log.info("asked to stop", extra={"connections": len(app[SOCKETS]), "notice_seconds": notice})
        hurry = loop.create_task(alone.wait())
        await asyncio.wait({watch, committer, hurry}, timeout=notice, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
    for task in (committer, watch):
        if task.done():
            log.critical("the server cannot go on, ending the process", exc_info=task.exception())
            return 1
    await _drain(app, site, config.limits.drain_seconds)
    watch.cancel()
    await runner.cleanup()
    await _close(app)
    return 0


async def _close(app: web.Application) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await close_app(app)
    except TimeoutError:
        log.error("ended before everything was closed; what was acknowledged is durable")


async def _drain(app: web.Application, site: web.TCPSite, seconds: float) -> None:
    await site.stop()
    app[ROOMS].stop()
    try:
        async with asyncio.timeout(seconds * (1 - CLOSING_SHARE)):
            await app[SOCKETS].drain(seconds * CLOSING_SHARE)
            await app[ROOMS].settle()
            log.info("stopped, everything is durable")
    except TimeoutError:
        log.error("stopped with edits that are not durable and were not acknowledged")


def _why_not(error: OSError) -> str:
    """What keeps the server from its address, and what to do. uvloop wraps the system's words in its own."""
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; end it, or choose another --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; choose another --host"
    if error.errno == errno.EACCES:
        return "that needs more rights; choose a --port above 1023"
    return str(error.strerror)


def _why_no_folder(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is in its place; name another folder"
    return f"{error.strerror}; make it and let the server write there, or name another"


def _listening(config: Config, port: int) -> None:
    warn_of_limit(config.limits.max_connections)
    host = f"[{config.host}]" if ":" in config.host else config.host
    print(f"ebbtide listening on http://{host}:{port}", flush=True)


def _cannot_listen(config: Config, error: OSError) -> int:
    print(f"ebbtide: cannot listen on {config.host}:{config.port}: {_why_not(error)}", file=sys.stderr)
    return 2
