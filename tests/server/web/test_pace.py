from __future__ import annotations

from server.web.pace import PACE_BYTES, PACE_SECONDS, Pace


def test_whoever_moves_enough_in_time_has_as_long_again() -> None:
    pace = Pace(7, 100.0)
    now = 100.0
    for moved in range(7 + PACE_BYTES, 7 + 20 * PACE_BYTES, PACE_BYTES):
        now = pace.deadline
        pace.move(moved, now)
        assert pace.deadline == now + PACE_SECONDS


def test_a_trickle_is_no_pace() -> None:
    pace = Pace(0, 0.0)
    for moved in range(0, PACE_BYTES, 1000):
        pace.move(moved, 20.0)
    assert pace.deadline == PACE_SECONDS
