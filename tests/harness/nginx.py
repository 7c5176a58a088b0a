"""A real nginx with the configuration of deploy/nginx, for tests: on a port of its own, in front of nodes on theirs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.mongod import PartMissing, free_port
from tests.harness.server_process import REPOSITORY

CONFIGURATION = REPOSITORY / "deploy" / "nginx" / "nginx.conf"
START_SECONDS = 30.0
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


class Nginx:
    """An nginx in front of the nodes on `ports`. A context manager: it runs inside."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nginx.conf").write_text(self._configuration(ports))

    @property
    def url(self) -> str:
        """`http://...`, for clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> str:
        """All that it has logged."""
        return "".join(path.read_text(errors="replace") for path in self._folder.glob("*.log"))

    def check(self, output: int = subprocess.PIPE) -> str:
        """What `nginx -t` says of the configuration. Raises `subprocess.CalledProcessError` when it is no good.

        `output` is the descriptor of its standard output.
        """
        command = [*self._command(), "-t"]
        return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=True).stderr

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self._folder / "access.log").open("ab") as out, (self._folder / "error.log").open("ab") as errors:
            self._process = subprocess.Popen(self._command(), stdout=out, stderr=errors, process_group=0)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(self.logs[-2000:])

    def stop(self) -> None:
        """End it and its workers."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            finally:
                if self._process.poll() is None:
                    os.killpg(self._process.pid, signal.SIGKILL)
                    self._process.wait()
                self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _command(self) -> list[str]:
        # Root's nginx has workers of another user, who may not enter the folders of tests.
        settings = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        folder = str(self._folder)
        return [str(nginx_program()), "-p", folder, "-c", f"{folder}/nginx.conf", "-e", "stderr", "-g", settings]

    def _configuration(self, ports: Sequence[int]) -> str:
        """That of deploy/nginx, but for the addresses and the folder that it writes to."""
        text = CONFIGURATION.read_text()
        text, replaced = _NODES.subn(
            lambda match: "".join(f"        server 127.0.0.1:{port} {match['settings']}\n" for port in ports), text
        )
        assert replaced == 3
        assert text.count("listen 8080") == 1
        return text.replace("listen 8080", f"listen 127.0.0.1:{self.port}").replace(" /tmp/", f" {self._folder}/")
