"""The machine: which core runs what, and what a process uses of it."""

from __future__ import annotations

import os
import platform
import resource
from functools import cache
from pathlib import Path

from bench.errors import BenchError


@cache
def cores() -> tuple[int, int]:
    """The core of the servers and the core of the load generator: the same one where there is only one.

    Answered as of the first call, which must come before `stay_off_the_servers_core`.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def stay_off_the_servers_core() -> None:
    """Put the harness itself on the load generator's core."""
    os.sched_setaffinity(0, {cores()[1]})


def describe() -> dict[str, object]:
    """What a reader needs in order to judge the figures."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    server, load = cores()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_mb": memory // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "server_core": server,
        "loadgen_core": load,
        "load_average": list(os.getloadavg()),
    }


def allow_open_files(wanted: int) -> None:
    """Raise this process's limit of open files, which servers and load generator inherit.

    Raises BenchError when the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"{wanted} open files are needed and the hard limit is {hard}: raise it (ulimit -Hn {wanted})")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def resident_kb(pid: int) -> int:
    """Resident memory of a process, in KB."""
    return _status(pid, "VmRSS")


def peak_kb(pid: int) -> int:
    """The largest resident memory since the last `reset_peak`, in KB."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Let `peak_kb` start again from what is resident now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def foreign_cpu() -> float:
    """CPU seconds that this machine spent on others since it started, but for a constant: take differences.

    What the harness and the children that it has waited for used is ours; the rest is disturbance.
    """
    busy = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    everyone = (sum(busy[:3]) + sum(busy[5:8])) / os.sysconf("SC_CLK_TCK")  # all but idle and iowait
    mine = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return everyone - sum(usage.ru_utime + usage.ru_stime for usage in mine)


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise BenchError(f"/proc/{pid}/status has no {field}")
