"""News between the workers of one machine, over Unix sockets in a folder of theirs: see docs/design/several-nodes.md."""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from server.bus.listeners import Listeners
from server.bus.news import MalformedNews, decode, encode
from server.bus.ports import DROPPED
from server.figures import Figure
from sync.rooms.ports import Listener, News

log = logging.getLogger(__name__)

UNSENT_BYTES = 8 << 20
"""What waits for a slow sibling at most; news beyond it is dropped, and found in the store."""

LARGEST_FRAME = 16 << 20
"""No news is larger: entries are announced by their number alone from 1 MiB on, and presence is dropped."""

NAME_BYTES = 4
"""Of an end's name. It is short since a socket's path may have a hundred bytes at most."""

GREETING_SECONDS = 2.0
"""How long a new worker waits for its siblings to answer; one that is stuck is no reason not to start."""

FLUSH_SECONDS = 0.5
"""How long `close` waits for the last news to go out."""

_LENGTH = struct.Struct(">I")
_NAME_LENGTH = struct.Struct(">H")


async def open_siblings(folder: Path) -> SiblingBus:
    """A worker's end of the bus that has its sockets in `folder`, which only these workers may enter.

    On return, news travel between this end and every other that was open before and answers. Raises `OSError` when the
    folder cannot be used.
    """
    bus = SiblingBus(folder)
    try:
        await bus.open()
    except BaseException:
        await bus.close()
        raise
    return bus


class SiblingBus:
    """One worker's end; see `server.bus.ports.NodeBus`. Made by `open_siblings`.

    Each end listens on a socket named for it, sends over connections that it made, and hears over those that others made.
    So there is one way for each direction, however two workers find each other.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = secrets.token_hex(NAME_BYTES)
        self._listeners = Listeners()
        self._server: asyncio.Server | None = None
        self._ways: dict[str, asyncio.Transport] = {}
        self._heard: set[asyncio.BaseTransport] = set()
        self._greeted: set[str] = set()
        self._greeting = asyncio.Event()
        self._meetings: dict[str, asyncio.Task[None]] = {}
        self._unsent: list[bytes] = []
        self.dropped = 0
        """News that were not sent to a sibling that reads too slowly."""

    async def open(self) -> None:
        """Listen, and meet the siblings that are there. For `open_siblings` alone."""
        # Under its final name only once it listens: who finds the name can connect.
        unready, ready = self._folder / f".{self._name}", self._folder / self._name
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Hearing(self), path=str(unready))
        unready.rename(ready)
        others = [path.name for path in self._folder.iterdir() if path != ready and not path.name.startswith(".")]
        await asyncio.gather(*map(self._meet, others))
        with suppress(TimeoutError):
            async with asyncio.timeout(GREETING_SECONDS):
                while not self._greeted.issuperset(self._ways):
                    self._greeting.clear()
                    await self._greeting.wait()

    @property
    def siblings(self) -> int:
        """How many other ends this one sends to."""
        return len(self._ways)

    def publish(self, document: str, news: News) -> None:
        """See `Bus.publish`."""
        if not self._ways:
            return
        name, content = document.encode(), encode(news)
        length = _NAME_LENGTH.size + len(name) + len(content)
        if length > LARGEST_FRAME:
            self.dropped += 1
            return
        self._unsent.append(b"".join((_LENGTH.pack(length), _NAME_LENGTH.pack(len(name)), name, content)))
        if len(self._unsent) == 1:
            # All news of a loop turn in one write.
            asyncio.get_running_loop().call_soon(self._flush)

    def subscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.subscribe`."""
        self._listeners.subscribe(document, listener)

    def unsubscribe(self, document: str, listener: Listener) -> None:
        """See `Bus.unsubscribe`."""
        self._listeners.unsubscribe(document, listener)

    def figures(self) -> Sequence[Figure]:
        """See `NodeBus.figures`."""
        return [
            Figure("bus_siblings", "Other workers of this machine that news go to.", lambda: self.siblings),
            Figure("bus_dropped", DROPPED, lambda: self.dropped, total=True),
        ]

    async def close(self) -> None:
        """See `Bus.close`."""
        self._flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                while any(way.get_write_buffer_size() for way in self._ways.values()):
                    await asyncio.sleep(0.005)
        self._listeners.clear()
        meetings = list(self._meetings.values())
        for meeting in meetings:
            meeting.cancel()
        await asyncio.gather(*meetings, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for transport in [*self._ways.values(), *self._heard]:
            transport.close()
        self._ways.clear()
        (self._folder / self._name).unlink(missing_ok=True)

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        data = b"".join(frames)
        for way in self._ways.values():
            if way.get_write_buffer_size() > UNSENT_BYTES:
                self.dropped += len(frames)
            else:
                way.write(data)

    async def _meet(self, name: str) -> None:
        """Make the way to a sibling, and tell it our name so that it makes its own."""
        path = self._folder / name
        try:
            way, _ = await asyncio.get_running_loop().create_unix_connection(lambda: _Sending(self, name), str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)  # left behind by a worker that was killed
            return
        except OSError as error:
            log.warning("worker not reached, it finds our edits in the store", extra={"reason": error.strerror})
            return
        way.write(_LENGTH.pack(NAME_BYTES) + bytes.fromhex(self._name))
        self._ways[name] = way

    # What the connections tell

    def came(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected, and will say who."""
        self._heard.add(transport)

    def greeted(self, name: str) -> None:
        """A sibling told its name: it hears us from now on if it does not already."""
        self._greeted.add(name)
        self._greeting.set()
        if name not in self._ways and name not in self._meetings:
            meeting = asyncio.get_running_loop().create_task(self._meet(name))
            self._meetings[name] = meeting
            meeting.add_done_callback(lambda _: self._meetings.pop(name))

    def hear(self, frame: memoryview) -> None:
        """News, of a document that somebody here may listen for."""
        try:
            (length,) = _NAME_LENGTH.unpack_from(frame)
            start = _NAME_LENGTH.size
            document = str(frame[start : start + length], "utf-8")
            if document not in self._listeners:
                return
            news = decode(bytes(frame[start + length :]))
        except (struct.error, UnicodeDecodeError, MalformedNews) as error:
            log.warning("news not understood", extra={"reason": str(error)})
            return
        self._listeners.tell(document, news)

    def left(self, transport: asyncio.BaseTransport) -> None:
        """A connection to hear on has ended."""
        self._heard.discard(transport)

    def lost(self, name: str) -> None:
        """The way to a sibling has ended: it has, or will be back under another name."""
        self._ways.pop(name, None)
        self._greeted.discard(name)


class _Sending(asyncio.Protocol):
    """A connection that this end made. Nothing comes over it but its end."""

    def __init__(self, bus: SiblingBus, name: str) -> None:
        self._bus = bus
        self._name = name

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._bus.lost(self._name)


class _Hearing(asyncio.Protocol):
    """A connection that another end made: its name in the first frame, then news. A frame is its length and its bytes."""

    def __init__(self, bus: SiblingBus) -> None:
        self._bus = bus
        self._transport: asyncio.BaseTransport | None = None
        self._buffer = bytearray()
        self._wanted = _LENGTH.size
        self._take = self._take_name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._bus.came(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return
        frames, start = memoryview(bytes(self._buffer)), 0
        while len(frames) - start >= self._wanted:
            (length,) = _LENGTH.unpack_from(frames, start)
            end = start + _LENGTH.size + length
            if length > LARGEST_FRAME:
                self._end()
                return
            if end > len(frames):
                self._wanted = end - start
                break
            self._take(frames[start + _LENGTH.size : end])
            start, self._wanted = end, _LENGTH.size
        del self._buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._transport is not None:
            self._bus.left(self._transport)

    def _take_name(self, frame: memoryview) -> None:
        if len(frame) != NAME_BYTES:
            self._end()
            return
        self._take = self._bus.hear
        self._bus.greeted(frame.hex())

    def _end(self) -> None:
        log.warning("a connection between workers carries no news, it is ended")
        if self._transport is not None:
            self._transport.close()
