"""From the text of an option to its value, one reader a kind.

Each reader raises `ValueError` with what it takes ("a port from 0 to 65535"), for a sentence that names the option.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from sync.protocol.names import MAX_DOCUMENT_NAME_BYTES, is_name

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_YES, _NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def count(given: str) -> int:
    """A whole number from 1 to 999,999,999,999."""
    if not re.fullmatch(r"[0-9]{1,12}", given) or int(given) == 0:
        raise ValueError("a whole number above 0")
    return int(given)


def rate(given: str) -> int:
    """A whole number a minute; 0 stands for no bound."""
    if not re.fullmatch(r"[0-9]{1,9}", given):
        raise ValueError("a whole number a minute, or 0 for no bound")
    return int(given)


def hours(given: str) -> int:
    """Whole hours, from 1 to a year's."""
    if not re.fullmatch(r"[0-9]{1,4}", given) or not 1 <= int(given) <= 8_784:
        raise ValueError("a whole number of hours from 1 to 8784")
    return int(given)


def hops(given: str) -> int:
    """A number of proxies, up to 10."""
    if not re.fullmatch(r"[0-9]{1,2}", given) or int(given) > 10:
        raise ValueError("a number of proxies from 0 to 10")
    return int(given)


def processes(given: str) -> int:
    """A number of processes for one machine: from 1 to 256."""
    if not re.fullmatch(r"[0-9]{1,3}", given) or not 1 <= int(given) <= 256:
        raise ValueError("a whole number from 1 to 256")
    return int(given)


def size(given: str) -> int:
    """Bytes, from `8388608` or `8MiB`."""
    match = re.fullmatch(r"([0-9]{1,12})(|B|KiB|MiB|GiB)", given)
    if not match or int(match[1]) == 0:
        raise ValueError("a size above 0 in bytes, or with KiB, MiB or GiB")
    return int(match[1]) * _UNITS[match[2]]


def seconds(given: str) -> float:
    """Seconds above 0, up to a day."""
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 < number <= 86_400:
        raise ValueError("a number of seconds above 0 and up to 86400")
    return number


def pause(given: str) -> float:
    """Seconds from 0 to an hour."""
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 3_600:
        raise ValueError("a number of seconds from 0 to 3600")
    return number


def port(given: str) -> int:
    """A TCP port; 0 stands for any free one."""
    if not re.fullmatch(r"[0-9]{1,5}", given) or int(given) > 65_535:
        raise ValueError("a port from 0 (any free one) to 65535")
    return int(given)


def text(given: str) -> str:
    """`given` itself: 1 to 2,000 characters, all printable."""
    if not 1 <= len(given) <= 2_000 or not given.isprintable():
        raise ValueError("a text of 1 to 2000 characters on one line")
    return given


def path(given: str) -> Path:
    """A path, which need not exist."""
    return Path(text(given))


def boolean(given: str) -> bool:
    """From `true`, `yes`, `on` or `1` and their opposites, in any case."""
    if given.lower() not in _YES | _NO:
        raise ValueError("true or false")
    return given.lower() in _YES


def one_of(*choices: str) -> Callable[[str], str]:
    """A reader that takes exactly these words."""

    def choice(given: str) -> str:
        if given not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return given

    return choice


def origin(given: str) -> str:
    """A web origin as browsers spell it (RFC 6454, section 6): scheme, host, and a port other than the scheme's own."""
    try:
        url = urlsplit(given)
        host, number = url.hostname, url.port
    except ValueError:
        host = None
    if not host or not url.scheme or "@" in url.netloc or url.path.strip("/") or url.query or url.fragment:
        raise ValueError("an origin such as https://app.example.org")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{bracketed}" + ("" if number in {None, _DEFAULT_PORTS.get(url.scheme)} else f":{number}")


def origins(given: str) -> tuple[str, ...]:
    """Web origins, separated by commas; see `origin`."""
    try:
        return tuple(origin(part.strip()) for part in given.split(","))
    except ValueError as error:
        raise ValueError(f"{error}, or several with commas between") from None


def url(given: str) -> str:
    """An address to fetch keys from: they decide who gets in, so they do not travel in clear over a network."""
    parts = urlsplit(text(given))
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not secure or not parts.hostname:
        raise ValueError("an https address (http is for loopback hosts alone)")
    return given


def moment(given: str) -> int:
    """Milliseconds since 1970, from a time in ISO 8601; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(given)
        milliseconds = round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        milliseconds = -1
    if milliseconds < 0:
        raise ValueError("a time such as 2026-11-25T20:15:00Z or 2026-11-25T21:15+01:00")
    return milliseconds


def document(given: str) -> str:
    """The name of a document."""
    if not is_name(given, MAX_DOCUMENT_NAME_BYTES):
        raise ValueError(f"a name of 1 to {MAX_DOCUMENT_NAME_BYTES} bytes without control characters")
    return given


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, can only mean this machine (RFC 6761, section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
