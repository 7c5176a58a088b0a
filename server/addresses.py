"""Addresses of other programs, as people may read them."""

from __future__ import annotations

from urllib.parse import unquote


def without_secrets(url: str) -> str:
    """The address without user, password and options.

    Also of a text that is none: whatever stands before the last `@` may be part of a password.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or "@" in scheme:
        scheme, mark, rest = "", "", url
    place = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    hosts, slash, path = place.partition("/")
    return f"{scheme}{mark}{hosts}{slash}{unquote(path)}"
