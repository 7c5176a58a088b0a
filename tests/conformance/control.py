"""Lets a Node test have a server of its own, kill it and start it again.

    POST   /servers               start one      -> {"id", "url", "pid"}
    POST   /servers/{id}/stop     SIGTERM, and its exit awaited
    POST   /servers/{id}/start    start it again with its port and data, the old process gone   -> {"id", "url", "pid"}
    DELETE /servers/{id}          end it for good

A test sends SIGKILL itself, to the pid: by way of HTTP it would come too late to prove anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread

from tests.harness.server_process import ServerProcess


class Fleet:
    """The running servers by id, for several tests at once."""

    def __init__(self, make: Callable[[str], ServerProcess]) -> None:
        """`make` gets the new server's id and need not start the server."""
        self._make = make
        self._ids = (f"server-{number}" for number in count(1))
        self._servers: dict[str, ServerProcess] = {}

    def handle(self, method: str, path: str) -> object:
        """What the request asks for. Raises KeyError for whatever is not in this module's table."""
        match method, path.strip("/").split("/"):
            case "POST", ["servers"]:
                name = next(self._ids)
                self._servers[name] = self._make(name)
                return self._started(name)
            case "POST", ["servers", name, "start"]:
                self._servers[name].kill()
                return self._started(name)
            case "POST", ["servers", name, "stop"]:
                return self._servers[name].stop()
            case "DELETE", ["servers", name]:
                self._servers.pop(name).__exit__(None, None, None)
                return None
        raise KeyError(path)

    def close(self) -> None:
        """End every server."""
        for name in list(self._servers):
            self.handle("DELETE", f"/servers/{name}")

    def _started(self, name: str) -> object:
        server = self._servers[name]
        server.start()
        return {"id": name, "url": server.url, "pid": server.pid}


@contextmanager
def control(make: Callable[[str], ServerProcess]) -> Iterator[str]:
    """The base URL at which servers made by `make` can be had."""
    fleet = Fleet(make)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            try:
                status, body = 200, fleet.handle(self.command, self.path)
            except KeyError as error:
                status, body = 404, str(error)
            except Exception as error:
                # The Node test that asked is the one that has to fail with it.
                status, body = 500, f"{type(error).__name__}: {error}"
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests print what matters."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, name="conformance-control")
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        fleet.close()
