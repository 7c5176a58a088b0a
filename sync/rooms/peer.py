"""One connection in one room: whom to write to, in which dialect, and from which place on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from crdt.updates import EMPTY_UPDATE
from sync.protocol.dialect import Dialect
from sync.protocol.frame import binary
from sync.rooms.errors import PeerIncoherent
from sync.rooms.ports import Outlet

MAX_CAUSELESS = 1000
"""Updates without their causes that a peer may send before it delivers the causes."""


class Grant(NamedTuple):
    """What a peer's token says of it. `author` and `device` are written to the log with what the peer sends."""

    author: str
    device: str
    can_write: bool


class Peer:
    """A cursor on a document, moved along by its room.

    `grant` holds for what the peer sends from now on: a token may be followed by another account's. `behind` is
    None while the peer has all that the room has; otherwise the state vector to catch it up from. A new peer is *silent*:
    it gets nothing before it has told its state vector, since Yjs clients cannot take updates in the middle of a handshake.
    """

    __slots__ = (
        "address",
        "asked",
        "behind",
        "causeless",
        "dialect",
        "grant",
        "missing",
        "outlet",
        "silent",
    )

    def __init__(
        self, outlet: Outlet, dialect: Dialect, address: str, *, author: str = "", device: str = "", can_write: bool
    ) -> None:
        self.outlet = outlet
        self.dialect = dialect
        self.address = address
        self.grant = Grant(author, device, can_write)
        self.behind: bytes | None = None
        self.silent = True
        self.causeless = 0
        self.missing: dict[int, int] = {}
        """What those updates wait for: client id -> the clock that the document must reach."""
        self.asked = False
        """Whether it was asked for all that it has, and has not answered."""

    @property
    def live(self) -> bool:
        """Whether it gets each turn's frames as they are."""
        return self.behind is None and not self.silent

    def acknowledgement(self, update: bytes, *, whole: bool = False) -> bytes:
        """The frame that tells the peer that `update` is durable.

        If that is the `whole` of what it has, those that waited for their causes are in it, and their acknowledgements follow.
        """
        frame = binary(self.dialect.acknowledged(self.address, update))
        if whole and self.causeless:
            frame += binary(self.dialect.acknowledged(self.address, EMPTY_UPDATE)) * self.causeless
            self.causeless = 0
            self.missing = {}
        return frame

    def ask(self, state_vector: bytes) -> None:
        """Ask for all that the peer has beyond `state_vector`."""
        self.asked = True
        self.outlet.write(binary(self.dialect.step1(self.address, state_vector)))

    def ask_causes(self, state_vector: bytes, missing: Mapping[int, int]) -> bool:
        """The peer sent an update without its causes: ask for them once, and owe the acknowledgement until they come.

        `missing` says what it waits for. Returns whether the peer was asked.
        """
        asks = self.causeless == 0
        if asks:
            self.ask(state_vector)
        self.causeless += 1
        for client, clock in missing.items():
            self.missing[client] = max(clock, self.missing.get(client, 0))
        if self.causeless > MAX_CAUSELESS:
            self.outlet.fail(PeerIncoherent("updates arrive whose causes were never sent; reload the document and try again"))
        return asks

    def ask_again(self, state_vector: bytes) -> None:
        """What the peer's updates waited for came from elsewhere: ask for them."""
        self.missing = {}
        self.ask(state_vector)

    def refuse(self) -> None:
        """Tell the peer that an update of its was not taken, where its dialect has words for that."""
        payload = self.dialect.refused(self.address)
        if payload is not None:
            self.outlet.write(binary(payload))
