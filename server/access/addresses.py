"""Which address a request counts for, where proxies may stand between."""

from __future__ import annotations

import ipaddress

_NETWORK_BYTES = 8
"""Of an IPv6 address, what stands for one subscriber: who has one address of a /64 has them all."""


def client_address(peer: str, forwarded: str, hops: int) -> bytes:
    """The address of a client as the key of its counters: 4 bytes of IPv4, 8 bytes of IPv6, or b"" when it is not known.

    `peer` is the connection's other end and `forwarded` the request's `X-Forwarded-For`, all of its lines joined with
    commas. Each of the `hops` trusted proxies appends what connected to it, so the client is the `hops`-th from the right:
    what stands left of that, the client can have written itself. A header with fewer is of no trusted proxy, and `peer` counts.
    """
    named = forwarded.rsplit(",", hops)[-hops:] if hops else []
    if len(named) == hops and hops:
        return _packed(named[0].strip()) or _packed(peer)
    return _packed(peer)


def _packed(text: str) -> bytes:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return b""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped.packed if address.ipv4_mapped else address.packed[:_NETWORK_BYTES]
    return address.packed
