"""A real mongod for tests and benchmarks: a replica set of one or more members on ports of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.harness.server_process import REPOSITORY

START_SECONDS = 60.0
PARTS = REPOSITORY / ".stamps" / "parts"
"""Where `make test` installs programs that only tests need."""


class PartMissing(Exception):
    """A program that the tests run against is not on this machine. `str()` says how to get it."""


def mongod_program() -> Path:
    """The mongod to run: `EBBTIDE_MONGOD`, that of `make parts`, or the one on the path. Raises `PartMissing`."""
    named, found = os.environ.get("EBBTIDE_MONGOD"), shutil.which("mongod")
    for path in [Path(named)] if named else [PARTS / "fiftyone" / "db" / "bin" / "mongod", *([Path(found)] if found else [])]:
        if path.is_file():
            return path
    raise PartMissing("there is no mongod: `make parts` installs one, EBBTIDE_MONGOD names another")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Member:
    """One mongod. Not started until `start`."""

    def __init__(self, folder: Path, replica_set: str | None, settings: Sequence[str] = ()) -> None:
        """`settings` are further flags of mongod."""
        self.folder = folder
        self._settings = settings
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        """Where the others of its set, and clients, reach it."""
        self._replica_set = replica_set
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of its process; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it on what its folder holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(mongod_program()), "--dbpath", str(self.folder), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--wiredTigerCacheSizeGB", "0.5", "--setParameter", "enableTestCommands=1",
            "--setParameter", "diagnosticDataCollectionEnabled=false", "--nounixsocket", *self._settings,
        ]  # fmt: skip
        if self._replica_set:
            command += ["--replSet", self._replica_set]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.pid is not None

    def signal(self, number: int) -> None:
        """Send a signal, SIGSTOP and SIGCONT among them."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> MongoClient[dict[str, Any]]:
        """A connection to this member alone. The caller closes it."""
        return MongoClient("127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=2000)

    def wait_until_it_answers(self) -> None:
        """Return when it takes connections. Raises `TimeoutError` with the end of its log."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.running:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise TimeoutError(f"mongod did not start:\n{tail}")


class ReplicaSet:
    """Some members that elect a primary among them. A context manager: it stops them at the end."""

    def __init__(self, folder: Path, members: int = 1, settings: Sequence[str] = ()) -> None:
        """`settings` are further flags of each mongod."""
        self.name = "rs0"
        self.members = [Member(folder / str(index), self.name, settings) for index in range(members)]

    @property
    def address(self) -> str:
        """`mongodb://...`, to be followed by a database."""
        return f"mongodb://{','.join(member.address for member in self.members)}"

    def url(self, database: str, options: str = "") -> str:
        """The address of a database."""
        return f"{self.address}/{database}?replicaSet={self.name}{options}"

    def start(self) -> None:
        """Start the members and wait until there is a primary."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_until_it_answers()
        hosts = [{"_id": index, "host": member.address} for index, member in enumerate(self.members)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        with self.members[0].client() as client:
            client.admin.command("replSetInitiate", {"_id": self.name, "members": hosts, "settings": settings})
        self.primary()

    def primary(self) -> Member:
        """The member that can be written to now, waited for."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for member in self.members:
                if not member.running:
                    continue
                with member.client() as client:
                    try:
                        if client.admin.command("hello")["isWritablePrimary"]:
                            return member
                    except PyMongoError:
                        continue
            time.sleep(0.05)
        raise TimeoutError("no primary was elected")

    def stop(self) -> None:
        """End all members."""
        for member in self.members:
            if member.running:
                member.signal(signal.SIGCONT)
            member.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
