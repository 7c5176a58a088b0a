from __future__ import annotations

from collections.abc import Callable

import pytest

from server.access import rates as module
from server.access.errors import RateLimited
from server.access.rates import Rate, Rates

MINUTE = 60.0
BEGIN = 1_800_000_000.0
"""The beginning of a minute."""


class Node:
    def __init__(self, limit: int = 3) -> None:
        self.now = BEGIN
        self.rates = Rates(dict.fromkeys(Rate, limit), lambda: self.now)

    def take(self, who: str | bytes = "ada", rate: Rate = Rate.PUSHES) -> bool:
        try:
            self.rates.take(rate, who)
        except RateLimited:
            return False
        return True

    def takes(self, times: int, who: str | bytes = "ada") -> int:
        return sum(self.take(who) for _ in range(times))


def share(*nodes: Node) -> Callable[[], None]:
    """What Redis does: adds, and tells each node the sum."""
    totals: dict[tuple[int, Rate, bytes], int] = {}

    def exchange() -> None:
        for node in nodes:
            for each in node.rates.untold(1000):
                key = (each.window, each.rate, each.key)
                totals[key] = totals.get(key, 0) + each.more
                node.rates.learn(each, totals[key])

    return exchange


def test_so_many_a_minute_and_then_again() -> None:
    node = Node()
    assert node.takes(5) == 3
    node.now = BEGIN + MINUTE - 0.001
    assert node.takes(5) == 0
    node.now = BEGIN + MINUTE
    assert node.takes(5) == 3


def test_who_is_refused_is_told_when_to_come_back() -> None:
    node = Node(1)
    node.now = BEGIN + 18.5
    node.take()
    with pytest.raises(RateLimited, match="more than 1 pushes were sent in a minute; come back in 42 s") as raised:
        node.rates.take(Rate.PUSHES, "ada")
    assert (raised.value.limit, raised.value.retry_after) == (1, 42)
    node.now += raised.value.retry_after
    assert node.take()


def test_everyone_and_everything_is_counted_alone() -> None:
    node = Node(1)
    assert node.take("ada", Rate.PUSHES)
    assert node.take("bob", Rate.PUSHES)
    assert node.take("ada", Rate.HANDSHAKES)
    assert node.take(b"ada", Rate.PUSHES), "an account cannot use up what an address may do"
    assert not node.take("ada", Rate.PUSHES)


def test_no_bound_counts_nothing() -> None:
    node = Node(0)
    assert node.takes(10_000) == 10_000
    assert node.rates.untold(10) == []


def test_nodes_that_share_admit_as_many_together() -> None:
    one, two = Node(10), Node(10)
    exchange = share(one, two)
    assert (one.takes(6), two.takes(3)) == (6, 3)
    exchange()
    assert two.takes(9) == 1, "it knows of the other's six, and its own three"
    exchange()
    assert one.takes(9) == 4, "the other had told nothing when it last asked"
    exchange()
    assert (one.takes(9), two.takes(9)) == (0, 0)


def test_nodes_that_do_not_share_admit_as_many_each() -> None:
    one, two = Node(10), Node(10)
    assert (one.takes(20), two.takes(20)) == (10, 10)


def test_counters_that_were_lost_elsewhere_take_nothing_away_here() -> None:
    node = Node(10)
    node.takes(6)
    (told,) = node.rates.untold(10)
    node.rates.learn(told, 1)
    assert node.takes(9) == 4


def test_what_is_told_late_counts_for_its_own_minute() -> None:
    node = Node(10)
    node.takes(5)
    (told,) = node.rates.untold(10)
    node.now += MINUTE
    node.takes(1)
    node.rates.learn(told, 1000)
    assert node.takes(20) == 9


def test_nothing_is_told_twice_and_nothing_of_a_minute_that_is_over() -> None:
    node = Node(10)
    node.takes(2)
    node.takes(1, "bob")
    assert [each.more for each in node.rates.untold(1)] == [2]
    assert [each.more for each in node.rates.untold(9)] == [1]
    node.takes(4)
    assert [each.more for each in node.rates.untold(9)] == [4]
    assert node.rates.untold(9) == []
    node.takes(1)
    node.now += MINUTE
    assert node.rates.untold(9) == []


def test_counters_are_bounded_and_those_that_count_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED", 3)
    node = Node(2)
    assert node.takes(2) == 2
    assert sum(node.take(b"%d" % number) for number in range(100)) == 100
    assert not node.take("ada")
    assert node.rates.uncounted == 98
    assert len(node.rates.untold(1000)) == 3


def test_a_counter_holds_no_name() -> None:
    node = Node()
    node.take("ada" * 60)
    node.take(bytes([203, 0, 113, 7]))
    assert {len(each.key) for each in node.rates.untold(9)} == {12}
