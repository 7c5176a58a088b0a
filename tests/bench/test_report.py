"""What the benchmarks say of their runs: medians, spreads, ratios, and what may have spoilt them."""

from __future__ import annotations

import pytest

from bench.lab import Metric, Run
from bench.report import as_json, summary, table
from bench.scenarios.rates import _bracket

RATE = Metric("rate", "edits a second", "higher")
WAIT = Metric("wait", "p50, ms", "lower", 1)
SEEN = Metric("seen", "seen", "")


def runs(*figures: dict[str, float | None]) -> list[Run]:
    return [Run(figures=each) for each in figures]


def test_a_figure_is_the_median_with_its_spread_of_the_runs_that_have_it() -> None:
    found = summary([RATE], {"ours": runs({"rate": 5}, {"rate": 1}, {"rate": None}, {"rate": 9})})
    assert found == {"ours": {"rate": {"median": 5, "min": 1, "max": 9}}}


def test_a_ratio_above_one_says_that_the_first_peer_is_better_whichever_way_the_figure_goes() -> None:
    both = {"ours": runs({"rate": 30, "wait": 2.0}), "theirs": runs({"rate": 10, "wait": 5.0})}
    lines = table("t", [RATE, WAIT], both).splitlines()
    assert [line.split()[-1] for line in lines if line.strip().startswith("theirs")] == ["3.00", "2.50"]


@pytest.mark.parametrize("value", [0, None])
def test_there_is_no_ratio_to_nothing(value: float | None) -> None:
    both = {"ours": runs({"rate": 30, "seen": 1}), "theirs": runs({"rate": value, "seen": 1})}
    assert " x " not in table("t", [RATE, SEEN], both)


def test_a_table_says_what_may_have_spoilt_a_run() -> None:
    spoilt = Run(figures={"rate": 1}, loadgen_cpu=0.9, foreign_cpu=0.5, notes=["half of it never arrived"])
    text = table("t", [RATE], {"ours": [spoilt], "theirs": runs({"rate": 1})})
    assert "! ours: the load generator used 90% of its core" in text
    assert "! ours: other programs used 50% of a core" in text
    assert "! ours: half of it never arrived" in text
    assert "! theirs" not in text


def test_the_results_file_keeps_every_run_and_how_it_was_started() -> None:
    run = Run(figures={"rate": 1}, commands={"serve"}, raw=[{"sent": 1}])
    part = as_json([RATE], {"ours": [run]})
    assert part["metrics"] == {"rate": "edits a second"}
    assert part["runs"]["ours"][0] == {
        "figures": {"rate": 1},
        "notes": [],
        "loadgen_cpu": 0.0,
        "foreign_cpu": 0.0,
        "commands": ["serve"],
        "raw": [{"sent": 1}],
    }


@pytest.mark.parametrize("limit", [300, 1_000, 17_000, 64_000])
def test_the_search_for_a_rate_ends_near_the_highest_that_holds(limit: float) -> None:
    found = _bracket(lambda rate: rate <= limit, quick=False)
    assert limit / 1.1 <= found <= limit


def test_a_rate_that_fails_once_is_tried_again() -> None:
    failed: list[float] = []

    def holds(rate: float) -> bool:
        if rate == 4_000 and not failed:
            failed.append(rate)
            return False
        return rate <= 16_000

    assert _bracket(holds, quick=False) > 14_000
