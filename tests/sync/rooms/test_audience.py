"""The audience: frames built once, one write a peer and turn, and cursors that lag."""

from __future__ import annotations

from sync.protocol.frame import binary
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.messages import SyncStep2, SyncUpdate
from sync.rooms.audience import Audience
from sync.rooms.peer import Peer
from tests.sync.rooms.kit import YWS, RecordingOutlet, edits, frames


class Seat:
    """A peer and its outlet, live from the start."""

    def __init__(self, audience: Audience, address: str = "d", dialect: object = None) -> None:
        self.outlet = RecordingOutlet()
        self.peer = Peer(self.outlet, Hocuspocus() if dialect else YWS, address, can_write=True)
        self.peer.silent = False
        audience.add(self.peer)


def frame_of(update: bytes) -> bytes:
    return binary(YWS.update("", update))


def test_a_turn_is_one_write_a_peer_and_the_same_bytes_for_all_readers() -> None:
    audience = Audience(backlog_limit=1000)
    writer, one, two = Seat(audience), Seat(audience), Seat(audience)
    a, b = edits("a", "b")
    assert audience.relay([(writer.peer, a), (writer.peer, b)], {}) == []
    assert len(one.outlet.writes) == 1
    assert one.outlet.writes[0] is two.outlet.writes[0]
    assert one.outlet.messages == [SyncUpdate("", a), SyncUpdate("", b)]
    assert writer.outlet.writes == []


def test_an_author_gets_what_the_others_wrote_in_one_write() -> None:
    audience = Audience(backlog_limit=1000)
    ada, bob = Seat(audience), Seat(audience)
    a, b, c = edits("a", "b", "c")
    audience.relay([(ada.peer, a), (bob.peer, b), (None, c)], {})
    assert (ada.outlet.updates, len(ada.outlet.writes)) == ([b, c], 1)
    assert (bob.outlet.updates, len(bob.outlet.writes)) == ([a, c], 1)


def test_each_dialect_and_address_gets_frames_of_its_own() -> None:
    audience = Audience(backlog_limit=1000)
    yws, hocus, session = Seat(audience), Seat(audience, "d", "hocuspocus"), Seat(audience, "d\0s", "hocuspocus")
    (a,) = edits("a")
    audience.relay([(None, a)], {})
    assert yws.outlet.updates == [a]
    for seat in (hocus, session):
        (payload,) = frames(seat.outlet.writes[0])
        assert Hocuspocus().decode(payload, "") == SyncUpdate(seat.peer.address, a)


def test_silent_and_lagging_peers_are_passed_over() -> None:
    audience = Audience(backlog_limit=1000)
    silent, lagging = Seat(audience), Seat(audience)
    silent.peer.silent = True
    audience.lag([lagging.peer], b"\x00")
    (a,) = edits("a")
    audience.relay([(None, a)], {})
    audience.announce(b"\x00")
    assert silent.outlet.writes == lagging.outlet.writes == []


def test_a_full_transport_is_reported_and_its_peer_gets_one_merged_diff_when_it_has_drained() -> None:
    audience = Audience(backlog_limit=10)
    slow, quick = Seat(audience), Seat(audience)
    slow.outlet.stuck = 11
    a, b = edits("a", "b")
    assert audience.relay([(None, a)], {}) == [slow.peer]
    audience.lag([slow.peer], b"place")
    audience.relay([(None, b)], {})
    assert (slow.outlet.updates, quick.outlet.updates) == ([a], [a, b])
    assert audience.drained() == []
    slow.outlet.stuck = 0
    assert audience.drained() == [slow.peer]
    audience.catch_up(slow.peer, lambda place: place + b"-diff")
    assert slow.outlet.of(SyncStep2) == [SyncStep2("", b"place-diff")]
    assert slow.peer.live
    assert not audience.lagging


def test_peers_at_the_same_place_share_one_encoded_frame_until_the_document_changes() -> None:
    audience = Audience(backlog_limit=1000)
    seats = [Seat(audience) for _ in range(4)]
    asked: list[bytes] = []

    def diff(place: bytes) -> bytes:
        asked.append(place)
        return b"state"

    for seat, place in zip(seats, [b"\x00", b"\x00", b"\x01", b"\x00"], strict=True):
        seat.peer.behind = place
        audience.catch_up(seat.peer, diff)
    assert asked == [b"\x00", b"\x01"]
    assert seats[0].outlet.writes[0] is seats[1].outlet.writes[0] is seats[3].outlet.writes[0]
    audience.relay([(None, edits("a")[0])], {})
    seats[0].peer.behind = b"\x00"
    audience.catch_up(seats[0].peer, diff)
    assert asked == [b"\x00", b"\x01", b"\x00"]


def test_shared_frames_are_bounded_however_many_places_are_asked_for() -> None:
    audience = Audience(backlog_limit=1000)
    seat = Seat(audience)
    for place in range(100):
        seat.peer.behind = bytes([place])
        audience.catch_up(seat.peer, lambda _: b"state")
    (channel,) = audience._channels.values()
    assert len(channel.catch_ups) <= 2


def test_presence_passes_over_a_peer_whose_transport_is_full() -> None:
    audience = Audience(backlog_limit=10)
    stuck, well = Seat(audience), Seat(audience)
    stuck.outlet.stuck = 11
    audience.announce(b"\x00")
    assert stuck.outlet.writes == []
    assert len(well.outlet.writes) == 1


def test_who_left_is_forgotten_everywhere() -> None:
    audience = Audience(backlog_limit=1000)
    seat = Seat(audience)
    audience.lag([seat.peer], b"\x00")
    assert seat.peer in audience
    audience.remove(seat.peer)
    audience.remove(seat.peer)
    assert seat.peer not in audience
    assert len(audience) == 0
    assert not audience.lagging
    audience.relay([(None, edits("a")[0])], {})
    assert seat.outlet.writes == []


def test_what_is_due_goes_out_with_the_edits_and_what_finds_no_edit_stays_due() -> None:
    audience = Audience(backlog_limit=1000)
    ada, bob, lagging = Seat(audience), Seat(audience), Seat(audience)
    audience.lag([lagging.peer], b"\x00")
    a, b = edits("a", "b")
    due = {ada.peer: frame_of(b), lagging.peer: frame_of(b), bob.peer: frame_of(b)}
    audience.relay([(ada.peer, a)], due)
    assert (bob.outlet.updates, len(bob.outlet.writes)) == ([b, a], 1)
    assert due.keys() == {ada.peer, lagging.peer}
