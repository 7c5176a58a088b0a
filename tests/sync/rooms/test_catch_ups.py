"""What is held of large frames: counted once each, and only while somebody has not taken them."""

from __future__ import annotations

from sync.rooms.catch_ups import LARGE, CatchUps
from tests.sync.rooms.kit import RecordingOutlet


def test_a_frame_that_many_are_sent_counts_once() -> None:
    catch_ups = CatchUps(3 * LARGE)
    outlets = [RecordingOutlet() for _ in range(5)]
    frame, other = bytes(2 * LARGE), bytes(2 * LARGE)
    for outlet in outlets:
        outlet.stuck = 1
        catch_ups.hold(frame, outlet)
    assert catch_ups.admits(LARGE)
    assert not catch_ups.admits(LARGE + 1)
    assert catch_ups.admits(LARGE - 1)
    catch_ups.hold(other, outlets[0])
    for outlet in outlets[1:]:
        outlet.stuck = 0
    catch_ups.prune()
    assert not catch_ups.admits(LARGE)
    outlets[0].stuck = 0
    catch_ups.prune()
    assert catch_ups.admits(100 * LARGE)


def test_small_frames_and_those_that_were_taken_do_not_count() -> None:
    catch_ups = CatchUps(LARGE)
    slow, quick = RecordingOutlet(), RecordingOutlet()
    slow.stuck = 1
    catch_ups.hold(bytes(LARGE - 1), slow)
    catch_ups.hold(bytes(4 * LARGE), quick)
    assert catch_ups.admits(100 * LARGE)


def test_one_frame_is_admitted_however_large_it_is() -> None:
    catch_ups = CatchUps(LARGE)
    assert catch_ups.admits(100 * LARGE)
    slow = RecordingOutlet()
    slow.stuck = 1
    catch_ups.hold(bytes(100 * LARGE), slow)
    assert not catch_ups.admits(LARGE)
