from __future__ import annotations

import pytest

from server.access.addresses import client_address

PEER = "198.51.100.1"


def address(text: str) -> bytes:
    return client_address(text, "", 0)


def test_an_ipv6_subscriber_is_a_network_and_ipv4_is_the_same_in_either_form() -> None:
    assert address("203.0.113.7") == bytes([203, 0, 113, 7]) == address("::ffff:203.0.113.7")
    assert address("2001:db8:0:1::1") == address("2001:db8:0:1:ffff::2") != address("2001:db8:0:2::1")
    assert address("fe80::1%eth0") == address("fe80::2")
    assert address("") == address("somewhere") == b""


@pytest.mark.parametrize(
    ("forwarded", "hops", "counted"),
    [
        ("203.0.113.7", 0, PEER),
        ("203.0.113.7", 1, "203.0.113.7"),
        ("10.0.0.1, 203.0.113.7", 1, "203.0.113.7"),
        ("10.0.0.1,203.0.113.7 ,10.0.0.9", 2, "203.0.113.7"),
        ("203.0.113.7", 2, PEER),
        ("", 1, PEER),
        ("10.0.0.1,", 1, PEER),
        ("unknown", 1, PEER),
        ("203.0.113.7:4711", 1, PEER),
        ("2001:db8::1", 1, "2001:db8::9"),
        (",".join(["10.0.0.1"] * 2000 + ["203.0.113.7"]), 1, "203.0.113.7"),
    ],
)
def test_only_what_a_trusted_proxy_wrote_counts(forwarded: str, hops: int, counted: str) -> None:
    assert client_address(PEER, forwarded, hops) == address(counted)
