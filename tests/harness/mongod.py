"""A real mongod for tests and benchmarks: a replica set of one or more members on ports of their own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.harness.program import PARTS, START_SECONDS, PartMissing, Program


def mongod_program() -> Path:
    """The mongod to run: `EBBTIDE_MONGOD`, that of `make parts`, or the one on the path. Raises `PartMissing`."""
    named, found = os.environ.get("EBBTIDE_MONGOD"), shutil.which("mongod")
    for path in [Path(named)] if named else [PARTS / "fiftyone" / "db" / "bin" / "mongod", *([Path(found)] if found else [])]:
        if path.is_file():
            return path
    raise PartMissing("there is no mongod: `make parts` installs one, EBBTIDE_MONGOD names another")


class Member(Program):
    """One mongod."""

    def __init__(self, folder: Path, replica_set: str | None, settings: Sequence[str] = ()) -> None:
        """`settings` are further flags of mongod."""
        super().__init__(folder)
        self.address = f"127.0.0.1:{self.port}"
        """Where the others of its set, and clients, reach it."""
        self._settings = settings
        self._replica_set = replica_set

    def command(self) -> list[str]:
        """See `Program.command`."""
        return [
            str(mongod_program()), "--dbpath", str(self.folder), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--wiredTigerCacheSizeGB", "0.5", "--setParameter", "enableTestCommands=1",
            "--setParameter", "diagnosticDataCollectionEnabled=false", "--nounixsocket", *self._settings,
            *(["--replSet", self._replica_set] if self._replica_set else []),
        ]  # fmt: skip

    def client(self) -> MongoClient[dict[str, Any]]:
        """A connection to this member alone. The caller closes it."""
        return MongoClient("127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=2000)


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
            member.launch()
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
