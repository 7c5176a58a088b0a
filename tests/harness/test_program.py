from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis

from tests.harness.redis_server import RedisServer


def answers(redis: RedisServer) -> bool:
    with Redis(port=redis.port) as client:
        return bool(client.ping())


def test_a_program_keeps_its_port_from_one_start_to_the_next(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        port, pid = redis.port, redis.pid
        assert answers(redis)
        redis.kill()
        assert not redis.running
        redis.start()
        assert redis.port == port
        assert redis.pid != pid
        assert answers(redis)
        redis.signal(signal.SIGSTOP)
    assert not redis.running, "one that is stopped is ended too"


def test_a_program_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match=r"(?s)redis-server did not start:.*no-such-setting"):
        RedisServer(tmp_path, settings=["--no-such-setting", "1"]).start()
