"""Addresses of other programs, as people may read them."""

from __future__ import annotations

from urllib.parse import quote, unquote


def without_secrets(url: str) -> str:
    """The address without user, password and options, on one line: characters that cannot be printed stay `%00`.

    Also of a text that is none: whatever stands before the last `@` may be part of a password.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or "@" in scheme:
        scheme, mark, rest = "", "", url
    place = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    hosts, slash, path = place.partition("/")
    shown = f"{scheme}{mark}{hosts}{slash}{unquote(path)}"
    return "".join(each if each.isprintable() else quote(each) for each in shown)
