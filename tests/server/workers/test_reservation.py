from __future__ import annotations

import errno
import socket

import pytest

from server.workers.reservation import ReservedPort


def listener(port: int, *, shared: bool) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_workers_listen_on_a_port_that_is_reserved_and_it_takes_no_connection() -> None:
    reserved = ReservedPort("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", reserved.port))
    with listener(reserved.port, shared=True) as worker:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", reserved.port)), worker.accept()[0]:
                pass
    reserved.close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_others_listen_on_is_not_shared_with_them(shared: bool) -> None:
    with listener(0, shared=shared) as other, pytest.raises(OSError, match="in use") as caught:
        ReservedPort("127.0.0.1", other.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_host_of_another_machine() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        ReservedPort("192.0.2.1", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL
