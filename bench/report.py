"""Medians with their spread, and the ratios to each peer, as text and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.lab import FOREIGN_LIMIT, LOADGEN_LIMIT, Metric, Run

Runs = Mapping[str, Sequence[Run]]


def summary(metrics: Sequence[Metric], runs: Runs) -> dict[str, dict[str, Any]]:
    """By peer and figure: the median, the smallest and the largest of the runs that have it."""
    result: dict[str, dict[str, Any]] = {}
    for peer, of_peer in runs.items():
        result[peer] = {}
        for metric in metrics:
            values = [value for run in of_peer if (value := run.figures.get(metric.key)) is not None]
            if values:
                result[peer][metric.key] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return result


def as_json(metrics: Sequence[Metric], runs: Runs) -> dict[str, Any]:
    """A scenario's part of the results file."""
    return {
        "metrics": {metric.key: metric.title for metric in metrics},
        "summary": summary(metrics, runs),
        "runs": {
            peer: [
                {
                    "figures": run.figures,
                    "notes": run.notes,
                    "loadgen_cpu": run.loadgen_cpu,
                    "foreign_cpu": run.foreign_cpu,
                    "commands": sorted(run.commands),
                    "raw": run.raw,
                }
                for run in of_peer
            ]
            for peer, of_peer in runs.items()
        },
    }


def table(title: str, metrics: Sequence[Metric], runs: Runs) -> str:
    """A scenario for reading. A ratio above 1 says that the first peer is better, whichever way the figure goes."""
    lines = [title, "-" * len(title)]
    figures = summary(metrics, runs)
    reference, *others = runs
    for metric in metrics:
        lines.append(f"{metric.title}" + (f" ({metric.better} is better)" if metric.better else ""))
        ours = figures[reference].get(metric.key)
        for peer in (reference, *others):
            found = figures[peer].get(metric.key)
            if not found:
                lines.append(f"  {peer:<18} {'-':>14}")
                continue
            middle, low, high = (f"{found[key]:,.{metric.digits}f}" for key in ("median", "min", "max"))
            spread = f"({low} to {high})" if len(runs[peer]) > 1 else ""
            ratio = _ratio(metric, ours, found) if peer != reference else ""
            lines.append(f"  {peer:<18} {middle:>14} {spread:<28} {ratio}".rstrip())
    for peer, of_peer in runs.items():
        busiest = max((run.loadgen_cpu for run in of_peer), default=0.0)
        if busiest > LOADGEN_LIMIT:
            lines.append(f"  ! {peer}: the load generator used {busiest:.0%} of its core and may have been the limit")
        disturbed = max((run.foreign_cpu for run in of_peer), default=0.0)
        if disturbed > FOREIGN_LIMIT:
            lines.append(f"  ! {peer}: other programs used {disturbed:.0%} of a core meanwhile")
        lines.extend(f"  ! {peer}: {note}" for note in dict.fromkeys(note for run in of_peer for note in run.notes))
    return "\n".join(lines) + "\n"


def _ratio(metric: Metric, ours: dict[str, float] | None, theirs: dict[str, float]) -> str:
    if not metric.better or not ours or min(ours["median"], theirs["median"]) <= 0:
        return ""
    ratio = ours["median"] / theirs["median"] if metric.better == "higher" else theirs["median"] / ours["median"]
    return f"x {ratio:.2f}" if ratio < 100 else f"x {ratio:,.0f}"
