"""How many files the system lets the server open. Every connection is one."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

log = logging.getLogger("ebbtide")

SPARE = 100
"""Files beside WebSockets: the database or connections to it, those of Redis, and pushes."""


def raise_limit() -> None:
    """Let the calling process, and those it starts, open as many files as the system permits.

    A shell or a unit often grants 1,024, for the sake of programs that call select(), and permits far more.
    """
    if sys.platform == "linux":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            # Refused where the bound of the whole system was lowered beneath the limit. Then the soft one stands.
            with suppress(ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def warn_of_limit(connections: int) -> None:
    """Log a line when this process, or a worker of its own, may not open the files for so many WebSockets.

    At the limit clients are not accepted, and nothing else would tell.
    """
    if sys.platform == "linux":
        import resource

        limit, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections + SPARE
        if resource.RLIM_INFINITY != limit < needed:
            log.warning("limit on open files too low for --max-connections", extra={"limit": limit, "needed": needed})
