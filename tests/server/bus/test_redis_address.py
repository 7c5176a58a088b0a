"""Addresses of a Redis that can never be used: refused before anybody is asked, and nothing secret is repeated."""

from __future__ import annotations

import pytest

from server.bus.errors import BusUnusable
from server.bus.redis_address import client_at


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis",
        "redis://h:x/0",
        "redis://[::1",
        "redis://h?db=nonsense",
        "redis://:pa/secret@h",
        "redis://:12/secret@h",
        "redis://:pa?secret@h",
        "redis://secret:12?x@h",
        "redis://:12#secret@h",
        "redis:/:secret@h",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BusUnusable, match="is no address of a Redis; write redis://HOST:PORT/NUMBER") as raised:
        client_at(url)
    assert "secret" not in raised.value.reason
    assert "pa" not in raised.value.reason.partition(";")[0]


@pytest.mark.parametrize("path", ["abc", "1/2", "-1"])
def test_a_database_is_a_number(path: str) -> None:
    with pytest.raises(BusUnusable, match="names no database by its number"):
        client_at(f"redis://h/{path}")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("redis://:secret@h/0?foo=bar", "foo"),
        ("redis://:secret@h?protocol=9", "protocol"),
        ("rediss://:secret@h?ssl_cert_reqs=nonsense", "ssl_cert_reqs"),
        ("rediss://:secret@h?ssl_ca_certs=/nope", r"ssl_ca_certs \(No such file or directory\)"),
    ],
)
def test_options_that_can_never_work(options: str, named: str) -> None:
    with pytest.raises(BusUnusable, match=f"://h.*: cannot be used with the options {named}; correct") as raised:
        client_at(options)
    assert "secret" not in raised.value.reason


@pytest.mark.parametrize("url", ["redis://h", "redis://ann:p%40%2F@h:1/2?protocol=3", "unix://@/run/redis.sock", "rediss://h"])
async def test_what_can_be_used(url: str) -> None:
    await client_at(url).aclose()
