"""One connection: what it is asked, and the acknowledgements that it is owed."""

from __future__ import annotations

from crdt.updates import EMPTY_UPDATE
from sync.protocol.messages import SyncStep1
from sync.rooms.errors import PeerIncoherent
from sync.rooms.peer import MAX_CAUSELESS, Peer
from tests.sync.rooms.kit import YWS, RecordingOutlet, frames


def peer() -> tuple[Peer, RecordingOutlet]:
    outlet = RecordingOutlet()
    return Peer(outlet, YWS, "d", can_write=True), outlet


def acknowledged(data: bytes) -> list[bytes]:
    return [YWS.decode(payload, "d").update for payload in frames(data)]  # type: ignore[union-attr]


def test_a_new_peer_hears_nothing_and_is_live_once_it_is_caught_up() -> None:
    new, _ = peer()
    assert not new.live
    new.silent = False
    assert new.live
    new.behind = b"\x00"
    assert not new.live


def test_causes_are_asked_for_once_and_what_is_missing_is_the_most_of_all() -> None:
    one, outlet = peer()
    assert one.ask_causes(b"\x00", {1: 5, 2: 1})
    assert one.asked
    assert not one.ask_causes(b"\x00", {1: 3, 3: 4})
    assert one.missing == {1: 5, 2: 1, 3: 4}
    assert len(outlet.of(SyncStep1)) == 1


def test_the_whole_of_what_a_peer_has_brings_the_acknowledgements_it_waits_for() -> None:
    one, _ = peer()
    for _ in range(3):
        one.ask_causes(b"\x00", {1: 1})
    assert acknowledged(one.acknowledgement(b"\x00\x00")) == [b"\x00\x00"]
    assert acknowledged(one.acknowledgement(b"\x01", whole=True)) == [b"\x01", *[EMPTY_UPDATE] * 3]
    assert (one.causeless, one.missing) == (0, {})
    assert acknowledged(one.acknowledgement(b"\x01", whole=True)) == [b"\x01"]


def test_asking_again_keeps_what_is_owed() -> None:
    one, outlet = peer()
    one.ask_causes(b"\x00", {1: 1})
    one.ask_again(b"\x01\x01\x01")
    assert [message.state_vector for message in outlet.of(SyncStep1)] == [b"\x00", b"\x01\x01\x01"]
    assert (one.causeless, one.missing) == (1, {})


def test_who_sends_too_much_without_its_causes_is_sent_away() -> None:
    one, outlet = peer()
    for _ in range(MAX_CAUSELESS):
        one.ask_causes(b"\x00", {})
    assert outlet.errors == []
    one.ask_causes(b"\x00", {})
    assert [type(error) for error in outlet.errors] == [PeerIncoherent]
