"""The load generator: compiled once, run on its own core, answers one JSON line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import machine
from bench.errors import BenchError
from bench.peers import BENCH, CACHE
from bench.process import Server

Answer = dict[str, Any]


def build() -> Path:
    """Compile bench/loadgen/*.c, unless these sources were compiled before.

    Raises BenchError when there is no C compiler or it fails.
    """
    sources = sorted((BENCH / "loadgen").glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    program = CACHE / f"loadgen-{digest}"
    if program.exists():
        return program
    if not shutil.which("cc"):
        raise BenchError("the load generator is written in C and there is no compiler `cc`: install gcc or clang")
    CACHE.mkdir(parents=True, exist_ok=True)
    units = [str(source) for source in sources if source.suffix == ".c"]
    built = program.with_suffix(".new")
    done = subprocess.run(["cc", "-O3", "-flto", "-o", str(built), *units], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the load generator does not compile (it needs Linux 5.11 and glibc 2.35):\n{done.stderr}")
    built.rename(program)
    return program


def _command(server: Server, mode: str, settings: dict[str, object]) -> list[str]:
    dialect = str(settings.get("dialect", server.peer.dialect))
    _, core = machine.cores()
    everything: dict[str, object] = {
        "port": server.port,
        "pid": server.pid,
        "dialect": dialect,
        "path": server.peer.paths[dialect],
        **settings,
    }
    return ["taskset", "-c", str(core), str(build()), mode, *(f"{key}={value}" for key, value in everything.items())]


def run(server: Server, mode: str, **settings: object) -> Answer:
    """Run one mode against a server to its end. Raises BenchError with what either side said if it fails."""
    with Running(server, mode, **settings) as running:
        return running.answer()


class Running:
    """A load generator at work; with `hold=1` it answers and keeps its connections until the block ends."""

    def __init__(self, server: Server, mode: str, **settings: object) -> None:
        self._server = server
        self._process = subprocess.Popen(
            _command(server, mode, settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def answer(self) -> Answer:
        """The answer, once it is there. Raises BenchError when the load generator fails."""
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().decode(errors="replace").strip()
            state = "" if self._server.alive else f"; the server is gone: {self._server.output()}"
            raise BenchError(f"{self._server.peer.name}: {said}{state}")
        answer: Answer = json.loads(line)
        return answer
