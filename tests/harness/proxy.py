"""A TCP proxy whose connections can be slow, stalled or reset: the network between two programs, in the hands of a test."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from enum import Enum, auto
from threading import Thread
from types import TracebackType
from typing import Any, Self

CHUNK = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Mode(Enum):
    """What becomes of a connection and of the bytes on it."""

    PASS = auto()
    SLOW = auto()
    """What arrives does so a while later."""
    STALL = auto()
    """Nothing arrives, as when packets are lost: bytes and ends wait, and arrive once it passes again."""
    RESET = auto()
    """Connections are reset, new ones at once."""


class _Link:
    """One connection through the proxy. Used on the proxy's loop."""

    def __init__(self, source: Hashable, writer: asyncio.StreamWriter, slow_seconds: float) -> None:
        self.source = source
        self.delay = 0.0
        self._slow_seconds = slow_seconds
        self.writers = [writer]
        self.flows = asyncio.Event()

    def obey(self, mode: Mode) -> None:
        self.delay = self._slow_seconds if mode is Mode.SLOW else 0.0
        if mode is Mode.STALL:
            self.flows.clear()
        else:
            self.flows.set()
        if mode is Mode.RESET:
            for writer in self.writers:
                end: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()


class Proxy:
    """Forwards connections to a port of this machine. A context manager; it runs on a thread of its own.

    `source_of` names who is at the other end of a connection, by the port that it comes from: then a mode may be set for
    one source alone. `slow_seconds` is how long each piece of what is sent takes, each way, where the mode is SLOW.
    """

    def __init__(
        self, target: int, source_of: Callable[[int], Hashable] = lambda port: None, *, slow_seconds: float = 0.0
    ) -> None:
        self._target = target
        self._slow_seconds = slow_seconds
        self._source_of = source_of
        self._default = Mode.PASS
        self._modes: dict[Hashable, Mode] = {}
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, mode: Mode, *sources: Hashable) -> None:
        """From now on `mode` holds, for connections of these sources or, without any, for all."""
        self._run(self._set(mode, sources))

    def close(self) -> None:
        """End all connections. Idempotent."""
        if self._thread.is_alive():
            self._run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _set(self, mode: Mode, sources: tuple[Hashable, ...]) -> None:
        if sources:
            self._modes |= dict.fromkeys(sources, mode)
        else:
            self._default, self._modes = mode, {}
        for link in list(self._links):
            link.obey(self._mode(link.source))

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.obey(Mode.RESET)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _mode(self, source: Hashable) -> Mode:
        return self._modes.get(source, self._default)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours and not of the server's: asyncio would report those that a test's end cancels.
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self._source_of(writer.get_extra_info("peername")[1]), writer, self._slow_seconds)
        self._links.add(link)
        link.obey(self._mode(link.source))
        try:
            await link.flows.wait()
            if writer.is_closing():
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            link.writers.append(far_writer)
            link.obey(self._mode(link.source))
            await asyncio.gather(self._forward(link, reader, far_writer), self._forward(link, far_reader, writer))
        except OSError:
            # One end is gone or not there: the other end is told in the same way.
            link.obey(Mode.RESET)
        finally:
            for each in link.writers:
                each.close()
            self._links.discard(link)

    async def _forward(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await asyncio.sleep(link.delay)
            await link.flows.wait()
            writer.write(data)
            await writer.drain()
        await link.flows.wait()
        writer.close()
