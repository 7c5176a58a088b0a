"""The peers of one room and what each of them is sent: every frame built once, one write a peer and turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from sync.protocol.dialect import Dialect
from sync.protocol.frame import binary
from sync.rooms.peer import Peer

SHARED_FRAMES = 2
"""Encoded states kept for who comes next from the same place: that of a blank copy, and one of those who come back."""

Diff = Callable[[bytes], bytes]
"""What a copy with the given state vector lacks."""


class Channel:
    """The peers that can share frames: one dialect and one address."""

    __slots__ = ("address", "catch_ups", "dialect", "peers")

    def __init__(self, dialect: Dialect, address: str) -> None:
        self.dialect = dialect
        self.address = address
        self.peers: dict[Peer, None] = {}
        self.catch_ups: dict[bytes, bytes] = {}

    def catch_up(self, state_vector: bytes, diff: Diff) -> bytes:
        """The frame that brings a copy with `state_vector` up to date; built once for all who are at the same place."""
        frame = self.catch_ups.pop(state_vector, None)
        if frame is None:
            frame = binary(self.dialect.step2(self.address, diff(state_vector)))
            if len(self.catch_ups) == SHARED_FRAMES:
                del self.catch_ups[next(iter(self.catch_ups))]
        self.catch_ups[state_vector] = frame
        return frame


class Audience:
    """All peers of a room, by channel."""

    __slots__ = ("_backlog_limit", "_channels", "lagging")

    def __init__(self, backlog_limit: int) -> None:
        self._backlog_limit = backlog_limit
        self._channels: dict[tuple[str, str], Channel] = {}
        self.lagging: dict[Peer, None] = {}
        """Peers that are to be caught up once their transport has drained."""

    def __len__(self) -> int:
        return sum(len(channel.peers) for channel in self._channels.values())

    def __iter__(self) -> Iterator[Peer]:
        for channel in self._channels.values():
            yield from channel.peers

    def __contains__(self, peer: Peer) -> bool:
        channel = self._channels.get((peer.dialect.name, peer.address))
        return channel is not None and peer in channel.peers

    def add(self, peer: Peer) -> None:
        """Let the peer in, silent until `catch_up`."""
        key = (peer.dialect.name, peer.address)
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = Channel(peer.dialect, peer.address)
        channel.peers[peer] = None

    def remove(self, peer: Peer) -> None:
        """Let the peer go. Unknown ones are ignored."""
        key = (peer.dialect.name, peer.address)
        channel = self._channels.get(key)
        if channel is not None:
            channel.peers.pop(peer, None)
            if not channel.peers:
                del self._channels[key]
        self.lagging.pop(peer, None)

    def relay(self, updates: Sequence[tuple[Peer | None, bytes]], due: dict[Peer, bytes]) -> list[Peer]:
        """Send a turn's updates, as their authors wrote them, to every live peer but the author of each.

        `due` has frames that peers are to get anyway: who is written to gets them in the same write, and leaves `due`.
        Returns the peers whose transports hold too much now: the caller lets them `lag`.
        """
        authors = {peer for peer, _ in updates}
        full: list[Peer] = []
        limit = self._backlog_limit
        for channel in self._channels.values():
            peers = channel.peers
            if channel.catch_ups:
                channel.catch_ups.clear()
            if len(peers) == 1 and len(authors) == 1 and peers.keys() == authors:
                continue
            encode, address = channel.dialect.update, channel.address
            frames = [binary(encode(address, update)) for _, update in updates]
            joined = frames[0] if len(frames) == 1 else b"".join(frames)
            for peer in peers:
                if peer.behind is not None or peer.silent:
                    continue
                data = joined
                if peer in authors:
                    if len(frames) == 1:
                        continue
                    data = b"".join([frame for frame, (author, _) in zip(frames, updates, strict=True) if author is not peer])
                    if not data:
                        continue
                if peer in due:
                    data = due.pop(peer) + data
                outlet = peer.outlet
                outlet.write(data)
                if outlet.backlog() > limit:
                    full.append(peer)
        return full

    def lag(self, peers: Iterable[Peer], state_vector: bytes) -> None:
        """Stop relaying to these peers, who have been sent all up to `state_vector`."""
        for peer in peers:
            peer.behind = state_vector
            self.lagging[peer] = None

    def shares(self, peer: Peer) -> bool:
        """Whether the frame that the peer is to be caught up with is there already."""
        return peer.behind in self._channels[(peer.dialect.name, peer.address)].catch_ups

    def catch_up(self, peer: Peer, diff: Diff) -> bytes:
        """Send the peer one merged diff from `peer.behind` on, and return its frame; the peer is live afterwards."""
        assert peer.behind is not None
        channel = self._channels[(peer.dialect.name, peer.address)]
        frame = channel.catch_up(peer.behind, diff)
        peer.behind = None
        peer.silent = False
        self.lagging.pop(peer, None)
        peer.outlet.write(frame)
        return frame

    def drained(self) -> list[Peer]:
        """The lagging peers whose transports have taken everything."""
        return [peer for peer in self.lagging if peer.outlet.backlog() == 0]

    def forget_catch_ups(self) -> None:
        """The document changed, or nobody joins any more: shared frames are of no more use."""
        for channel in self._channels.values():
            channel.catch_ups.clear()

    def announce(self, presence: bytes) -> None:
        """Send an awareness update to everybody who is not silent, its authors included.

        Clients of y-websocket before 4.0 drop a socket on which no message arrived for 30 s, so they need the echo of
        their own renewals. A peer with a full transport is passed over: its states are renewed anyway.
        """
        for channel in self._channels.values():
            frame = binary(channel.dialect.awareness(channel.address, presence))
            for peer in channel.peers:
                if not peer.silent and peer.behind is None and peer.outlet.backlog() <= self._backlog_limit:
                    peer.outlet.write(frame)
