"""How far a peer has come with what was written to it."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final, NamedTuple

_TCP_INFO: Final = struct.Struct("120x Q 16x I")
"""Of Linux's `struct tcp_info` the fields `tcpi_bytes_acked` and `tcpi_notsent_bytes` (`linux/tcp.h`, since 4.6)."""


class Uptake(NamedTuple):
    """What a peer's machine has taken: the kernel knows, while the transport's backlog shows only what the kernel took."""

    taken: int
    """Bytes that it has acknowledged, from some beginning on: two of these can be compared."""
    waiting: int
    """Bytes that could not be sent yet, since it does not take those before them."""


def uptake(transport: asyncio.Transport) -> Uptake:
    """How far the peer of an open transport has come. Where the kernel does not say so, by the backlog."""
    backlog = transport.get_write_buffer_size()
    if sys.platform == "linux":
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) == _TCP_INFO.size:
            taken, unsent = _TCP_INFO.unpack(info)
            return Uptake(taken, backlog + unsent)
    return Uptake(-backlog, backlog)
