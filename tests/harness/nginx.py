"""A real nginx with the configuration of deploy/nginx, for tests: on a port of its own, in front of nodes on theirs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.harness.program import PartMissing, Program
from tests.harness.server_process import REPOSITORY

CONFIGURATION = REPOSITORY / "deploy" / "nginx" / "nginx.conf"
PART = REPOSITORY / ".stamps" / "parts-nginx" / "usr" / "sbin" / "nginx"
"""Where `make test` puts one when there is none on the path."""

_NODES = re.compile(r"(?:^ *server node\d:8080 (?P<settings>.*;)\n)+", re.MULTILINE)


def nginx_program() -> Path:
    """The nginx to run: `EBBTIDE_NGINX`, the one on the path, or that of `make parts`. Raises `PartMissing`."""
    named, found = os.environ.get("EBBTIDE_NGINX"), shutil.which("nginx")
    for path in [Path(named)] if named else [*([Path(found)] if found else []), PART]:
        if path.is_file():
            return path
    raise PartMissing("there is no nginx: `make parts` fetches one where apt-get is, EBBTIDE_NGINX names another")


class Nginx(Program):
    """An nginx in front of the nodes on `ports`."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nginx.conf").write_text(self._configuration(ports))

    @property
    def url(self) -> str:
        """`http://...`, for clients."""
        return f"http://127.0.0.1:{self.port}"

    def check(self, output: int = subprocess.PIPE) -> str:
        """What `nginx -t` says of the configuration. Raises `subprocess.CalledProcessError` when it is no good.

        `output` is the descriptor of its standard output.
        """
        command = [*self.command(), "-t"]
        return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=True).stderr

    def command(self) -> list[str]:
        """See `Program.command`."""
        # Root's nginx has workers of another user, who may not enter the folders of tests.
        settings = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        folder = str(self.folder)
        return [str(nginx_program()), "-p", folder, "-c", f"{folder}/nginx.conf", "-e", "stderr", "-g", settings]

    def _configuration(self, ports: Sequence[int]) -> str:
        """That of deploy/nginx, but for the addresses and the folder that it writes to."""
        text = CONFIGURATION.read_text()
        text, replaced = _NODES.subn(
            lambda match: "".join(f"        server 127.0.0.1:{port} {match['settings']}\n" for port in ports), text
        )
        assert replaced == 3
        assert text.count("listen 8080") == 1
        return text.replace("listen 8080", f"listen 127.0.0.1:{self.port}").replace(" /tmp/", f" {self.folder}/")
