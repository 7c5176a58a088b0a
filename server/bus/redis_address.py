"""The address of a Redis, and all that can be known to be wrong with it before anybody answers there."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.exceptions import RedisError

from server.addresses import without_secrets
from server.bus.errors import BusUnusable

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 1.0
"""How long Redis may take to let a node connect, and to answer, before it counts as away."""

_UNREADABLE = "is no address of a Redis; write redis://HOST:PORT/NUMBER, and %40 %2F %3F %23 for @ / ? # in a password"


def client_at(url: str) -> Redis:
    """A client that is not connected yet, for the caller to close.

    Raises `BusUnusable` for an address, or options in it, with which it could never be.
    """
    place = without_secrets(url)
    try:
        parts = urlsplit(url)
        client = Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=None, decode_responses=False)
    except ValueError:
        # What the driver says of it may be a part of the password.
        raise BusUnusable(place, _UNREADABLE) from None
    # An @ there is the end of a password that was cut in two.
    if "@" in parts.path + parts.query + parts.fragment:
        raise BusUnusable(place, _UNREADABLE)
    if parts.scheme != "unix" and parts.path[1:] and not parts.path[1:].isdecimal():
        raise BusUnusable(place, "names no database by its number; write redis://HOST:PORT/NUMBER")
    try:
        # The driver looks at its options when it connects, and reports most of what is wrong as a lost connection.
        connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()
    except (AttributeError, LookupError, OSError, RedisError, TypeError, ValueError) as error:
        names = ", ".join(parse_qs(parts.query)) or "of TLS"
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise BusUnusable(place, f"cannot be used with the options {names}{why}; correct what follows ? in --bus") from None
    return client
