"""`python -m bench`: measure Ebbtide beside its peers."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import loadgen, machine, report
from bench.errors import BenchError
from bench.lab import Lab, Run
from bench.peers import BENCH, DEFAULT_PEERS, PEERS, Peer, install
from bench.scenarios import appends, cluster, cold, documents, fanout, idle, join, presence, push, survival

SCENARIOS: dict[str, ModuleType] = {
    "fanout": fanout,
    "documents": documents,
    "idle": idle,
    "join": join,
    "push": push,
    "presence": presence,
    "survival": survival,
    "cluster": cluster,
    "appends": appends,
    "cold": cold,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen scenarios, print their tables and write the results. Exit status 2 when it cannot."""
    options = _options(arguments)
    try:
        _bench(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--peers", default=",".join(DEFAULT_PEERS), help=f"of {', '.join(PEERS)}; the first is the reference")
    parser.add_argument("--runs", type=int, help="runs of each scenario and peer (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="shorter and coarser: shows that everything works")
    parser.add_argument(
        "--out", type=Path, default=BENCH / "results" / "results.json", help="where the results go (%(default)s)"
    )
    options = parser.parse_args(arguments)
    options.peers = options.peers.split(",")
    for kind, given, known in (("scenario", options.scenarios, SCENARIOS), ("peer", options.peers, PEERS)):
        for name in given:
            if name not in known:
                parser.error(f"no {kind} '{name}': choose from {', '.join(known)}")
    options.scenarios = options.scenarios or list(SCENARIOS)
    options.runs = options.runs or (1 if options.quick else 3)
    return options


def _bench(options: argparse.Namespace) -> None:
    peers = [PEERS[name] for name in options.peers]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    loadgen.build()
    versions = install(peers)
    machine.stay_off_the_servers_core()
    runs: dict[str, dict[str, list[Run]]] = {name: {peer.name: [] for peer in peers} for name in options.scenarios}
    results: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "arguments": sys.argv[1:],
        "machine": machine.describe(),
        "versions": versions,
        "scenarios": {},
    }
    with tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as work:
        for number in range(options.runs):
            for name in options.scenarios:
                scenario = SCENARIOS[name]
                if number and getattr(scenario, "ONCE", False):
                    continue
                for peer in _rotated(peers, number):
                    runs[name][peer.name].append(
                        _one(scenario, peer, Path(work) / f"{number}-{name}-{peer.name}", options.quick)
                    )
                results["scenarios"][name] = report.as_json(scenario.METRICS, runs[name])
                options.out.write_text(json.dumps(results, indent=1))
    print()
    for name in options.scenarios:
        print(report.table(SCENARIOS[name].TITLE, SCENARIOS[name].METRICS, runs[name]))
    print(f"every run is in {options.out}")


def _rotated(peers: list[Peer], number: int) -> list[Peer]:
    """Another first peer in each round: whatever the machine does at a round's start falls on all alike."""
    turn = number % len(peers)
    return peers[turn:] + peers[:turn]


def _one(scenario: ModuleType, peer: Peer, work: Path, quick: bool) -> Run:
    lab = Lab(work, quick)
    work.mkdir()
    start, foreign = time.monotonic(), machine.foreign_cpu()
    try:
        scenario.run(lab, peer)
    except (BenchError, HTTPException, OSError) as error:  # a server that died must not take the others' figures along
        lab.run.note((str(error) or repr(error))[:500])
    seconds = time.monotonic() - start
    lab.run.foreign_cpu = (machine.foreign_cpu() - foreign) / seconds
    print(f"{scenario.__name__.rpartition('.')[2]:<10} {peer.name:<18} {seconds:6.1f} s", flush=True)
    return lab.run


if __name__ == "__main__":
    sys.exit(main())
