"""Nodes on one database and one Redis."""

from __future__ import annotations

from pathlib import Path

from server.stores.mongo import open_mongo
from sync.rooms.ports import Store
from tests.harness.partition import DividedSet
from tests.harness.redis_server import RedisServer
from tests.harness.server_process import ServerProcess


class Cluster:
    """Two nodes, started by whoever makes the cluster."""

    def __init__(self, folder: Path, members: DividedSet, redis: RedisServer, database: str) -> None:
        self.members = members
        self.redis = redis
        self.address = members.url(database)
        self._folder = folder
        self.nodes = [self.node("a"), self.node("b")]
        members.know(*self.nodes)

    def node(
        self, name: str, *extra: str, store: str = "", bus: str = "", environ: dict[str, str] | None = None
    ) -> ServerProcess:
        """A node, not started. `store` and `bus` are addresses other than the cluster's own."""
        # Soon out of memory, so that documents are also loaded during a fault.
        arguments = ("--store", store or self.address, "--bus", bus or self.redis.url, "--idle-seconds", "0.3", *extra)
        return ServerProcess(self._folder / name, *arguments, environ=environ)

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    async def store(self) -> Store:
        """The store, opened anew and past every node."""
        return await open_mongo(self.address)

    def check_nodes(self) -> None:
        """Whatever happened, no node ended by itself or met an error that it did not expect."""
        for node in self.nodes:
            assert node.running, node.errors
            assert "Traceback" not in node.errors, node.errors
