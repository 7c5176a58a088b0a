"""Which process a TCP connection of this machine comes from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def owns_port(pid: int, port: int) -> bool:
    """Whether the process has a socket that is bound to this local port. Reads /proc, so on Linux only."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    # Either may be gone meanwhile.
    with suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if str(descriptor.readlink()) in wanted:
                    return True
    return False


def _inodes(port: int) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port]
