"""A port that several processes are going to share."""

from __future__ import annotations

import errno
import socket
from typing import Any


class ReservedPort:
    """Holds a port for workers that listen there with SO_REUSEPORT, and takes no connection itself.

    The kernel spreads connections over sockets that listen; the one here is only bound, so it has no part in that.
    """

    def __init__(self, host: str, port: int) -> None:
        """Reserve `port` on every address of `host`, or any free port for 0.

        Raises `OSError` when it cannot be had: also when others listen there who would share it, another Ebbtide of the same
        user among them.
        """
        self.port = port
        self._held: list[socket.socket] = []
        missing: OSError | None = None
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                try:
                    self._hold(socket.socket(family, kind, protocol), address)
                except OSError as error:
                    # `localhost` has an IPv6 address also where IPv6 is off.
                    if error.errno != errno.EADDRNOTAVAIL:
                        raise
                    missing = error
            if missing is not None and not self._held:
                raise missing
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the port. Idempotent."""
        for each in self._held:
            each.close()

    def _hold(self, held: socket.socket, address: tuple[Any, ...]) -> None:
        address = (address[0], self.port, *address[2:])
        try:
            if self.port:
                with socket.socket(held.family, held.type, held.proto) as probe:
                    _bind(probe, address)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(held, address)
        except BaseException:
            held.close()
            raise
        self._held.append(held)
        self.port = held.getsockname()[1]


def _bind(each: socket.socket, address: tuple[Any, ...]) -> None:
    # Connections of an earlier server that are still being wound up do not count; who listens does.
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    each.bind(address)
