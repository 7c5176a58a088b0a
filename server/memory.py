"""What the server asks of the system's memory: a deep stack, and what is free taken back."""

from __future__ import annotations

import ctypes
import sys

STACK_BYTES = 100 << 20
"""Linux keeps at least 128 MiB free below the first thread's stack, however small its limit was at the start."""


def deepen_stack() -> None:
    """Let the calling process's first thread use a deep stack, as far as the system permits.

    yrs deletes nested shared types by recursion, about 240 bytes a level. The usual 8 MiB end at 35,000 levels, and the
    process with them; 100 MiB hold 400,000.
    """
    if sys.platform == "linux":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
        wanted = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


def give_back() -> None:
    """Return what the allocator holds free to the system, where it is glibc's; elsewhere do nothing.

    Documents are many small allocations. When thousands of them leave memory, glibc keeps their pages for itself unless it
    is told otherwise: measured with 1,000 documents of 24 KB, 165 KB a connection before and 72 KB after.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
