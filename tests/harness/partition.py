"""A replica set whose members reach each other, and are reached, through proxies: any of them can be cut off."""

from __future__ import annotations

import signal
import time
from collections.abc import Hashable
from pathlib import Path

from tests.harness.connections import owns_port
from tests.harness.mongod import Member, ReplicaSet
from tests.harness.program import START_SECONDS
from tests.harness.proxy import Mode, Proxy
from tests.harness.server_process import ServerProcess

OUTSIDE = None
"""The source of connections that come from no member."""


class DividedSet(ReplicaSet):
    """Three members. Cutting off loses packets and closes no connection, as a broken network does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, members=3)
        self._proxies = {member: Proxy(member.port, self._source_of) for member in self.members}
        self._clients: list[ServerProcess] = []
        for member, proxy in self._proxies.items():
            member.address = f"127.0.0.1:{proxy.port}"

    def cut_off(self, member: Member, *, clients_too: bool = True) -> None:
        """Nothing passes between the member and the others, nor, unless told otherwise, between it and clients."""
        others = [each for each in self.members if each is not member]
        self._proxies[member].set(Mode.STALL, *others, *([OUTSIDE] if clients_too else []))
        for other in others:
            self._proxies[other].set(Mode.STALL, member)

    def know(self, *clients: ServerProcess) -> None:
        """These may be cut off, with connections that they make from now on. To be called before they start."""
        self._clients = [*clients]

    def treat(self, client: ServerProcess, mode: Mode) -> None:
        """What becomes of everything between this client and the members."""
        for proxy in self._proxies.values():
            proxy.set(mode, client)

    def cut_off_completely(self) -> None:
        """Nothing passes to any member."""
        for proxy in self._proxies.values():
            proxy.set(Mode.STALL)

    def heal(self) -> None:
        """Everything passes again."""
        for proxy in self._proxies.values():
            proxy.set(Mode.PASS)

    def recover(self) -> None:
        """Undo whatever was done to members and network, and wait until all three take part."""
        self.heal()
        for member in self.members:
            if member.running:
                member.signal(signal.SIGCONT)
            else:
                member.start()
        primary = self.primary()
        deadline = time.monotonic() + START_SECONDS
        with primary.client() as client:
            while time.monotonic() < deadline:
                states = [each["stateStr"] for each in client.admin.command("replSetGetStatus")["members"]]
                if sorted(states) == ["PRIMARY", "SECONDARY", "SECONDARY"]:
                    return
                time.sleep(0.05)
        raise TimeoutError("the members did not come together again")

    def stop(self) -> None:
        """See `ReplicaSet.stop`."""
        super().stop()
        for proxy in self._proxies.values():
            proxy.close()

    def _source_of(self, port: int) -> Hashable:
        known: list[Member | ServerProcess] = [*self.members, *(client for client in self._clients if client.running)]
        return next((each for each in known if each.pid is not None and owns_port(each.pid, port)), OUTSIDE)
