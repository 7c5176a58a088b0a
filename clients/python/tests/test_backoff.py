from __future__ import annotations

from ebbtide_client.backoff import Backoff


def test_delays_grow_to_the_bound_and_differ() -> None:
    backoff = Backoff(1.0, 8.0)
    delays = [backoff.delay() for _ in range(200)]
    assert all(0.0 <= delay <= min(8.0, 2.0**n) for n, delay in enumerate(delays))
    assert max(delays) > 4.0
    assert len(set(delays)) > 190


def test_the_time_that_the_server_asked_for_is_waited_first() -> None:
    assert 5.0 <= Backoff(1.0, 8.0).delay(at_least=5.0) <= 6.0


def test_reset_begins_anew() -> None:
    backoff = Backoff(1.0, 1000.0)
    for _ in range(10):
        backoff.delay()
    backoff.reset()
    assert backoff.delay() <= 1.0
