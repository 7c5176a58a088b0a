"""Lets a Node test have a server of its own, kill it and start it again.

    POST   /servers               start one      -> {"id", "url", "pid"}
    POST   /servers/{id}/stop     SIGTERM, and its exit awaited
    POST   /servers/{id}/start    start it again with its port and data, once the old process is gone  -> {"id", "url", "pid"}
    DELETE /servers/{id}          end it for good

A test sends SIGKILL itself, to the pid: over HTTP it would come too late to prove anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Protocol


class Server(Protocol):
    """A server process. `start` and `stop` wait, and both may be called on a process that somebody else has killed."""

    @property
    def url(self) -> str: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Fleet:
    """The running servers by id. Several tests use it at once."""

    def __init__(self, make: Callable[[str], Server]) -> None:
        """`make` gets the new server's id; it need not start the server."""
        self._make = make
        self._servers: dict[str, Server] = {}
        self._lock = Lock()
        self._made = 0

    def handle(self, method: str, path: str) -> object:
        """What the request asks for. Raises KeyError for anything that is not in this module's table."""
        match method, path.strip("/").split("/"):
            case "POST", ["servers"]:
                with self._lock:
                    self._made += 1
                    name = f"server-{self._made}"
                    self._servers[name] = self._make(name)
                self._servers[name].start()
                return self._describe(name)
            case "POST", ["servers", name, "start"]:
                self._servers[name].start()
                return self._describe(name)
            case "POST", ["servers", name, "stop"]:
                self._servers[name].stop()
                return None
            case "DELETE", ["servers", name]:
                self._servers.pop(name).stop()
                return None
        raise KeyError(path)

    def close(self) -> None:
        """End every server."""
        while self._servers:
            self._servers.popitem()[1].stop()

    def _describe(self, name: str) -> object:
        server = self._servers[name]
        return {"id": name, "url": server.url, "pid": server.pid}


@contextmanager
def control(make: Callable[[str], Server]) -> Iterator[str]:
    """The control's base URL, while servers can be had from it."""
    fleet = Fleet(make)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            try:
                status, body = 200, fleet.handle(self.command, self.path)
            except KeyError as error:
                status, body = 404, str(error)
            except Exception as error:  # noqa: BLE001 - the Node test that asked has to fail with it
                status, body = 500, f"{type(error).__name__}: {error}"
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            """Silent: the tests print what matters."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, name="conformance-control", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        fleet.close()
