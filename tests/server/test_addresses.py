"""What people may read of an address."""

from __future__ import annotations

import pytest

from server.addresses import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("redis://ann:secret@h/2?password=secret", "redis://h/2"),
        ("mongodb://ann:secret@a:1,b:2/d%C3%A9?w=1", "mongodb://a:1,b:2/dé"),
        ("redis://:pa/secret@h/2", "redis://h/2"),
        ("redis://:pa?secret#secret@h", "redis://h"),
        ("redis://:pa@secret@h", "redis://h"),
        ("redis:/:secret@h", "h"),
        ("ann:secret@h://", "h://"),
        ("redis://[::1", "redis://[::1"),
        ("redis", "redis"),
        ("mongodb://h/a%00b%0Ac\n%20d", "mongodb://h/a%00b%0Ac%0A d"),
    ],
)
def test_nothing_secret_is_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
