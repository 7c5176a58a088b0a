from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import jwt
import pytest

from server.logs import configure

TOKEN = jwt.encode({"sub": "ada", "exp": 4_000_000_000}, b"0123456789abcdef" * 2, "HS256")


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    root, names = logging.getLogger(), ("asyncio", "aiohttp", "aiohttp.access")
    handlers, level = root.handlers[:], root.level
    kept = {name: (logging.getLogger(name).level, logging.getLogger(name).disabled) for name in names}
    root.handlers = []  # `force` would close the ones that pytest still needs
    yield
    root.handlers, root.level = handlers, level
    for name, (each, disabled) in kept.items():
        logging.getLogger(name).setLevel(each)
        logging.getLogger(name).disabled = disabled


@pytest.fixture(params=["json", "text"])
def format_(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def logged(format_: str, message: str, level: int = logging.WARNING, **fields: object) -> str:
    stream = io.StringIO()
    configure(format_, "info", stream)
    logging.getLogger("server.test").log(level, message, extra=fields)
    return stream.getvalue()


def test_json_lines_hold_the_message_and_the_fields_with_their_types() -> None:
    line = json.loads(logged("json", "store not polled", document="notes\nü", count=3, healthy=False, reason=None))
    moment = datetime.fromisoformat(line.pop("time"))
    assert moment.tzinfo is not None
    assert line == {
        "level": "warning",
        "logger": "server.test",
        "message": "store not polled",
        "document": "notes\nü",
        "count": 3,
        "healthy": False,
        "reason": None,
    }


def test_text_lines_stay_on_one_line() -> None:
    line = logged("text", "joined", document="a\nb")
    assert line.endswith('warning server.test: joined document="a\\nb"\n')
    assert line.count("\n") == 1


def test_what_is_below_the_level_is_not_written(format_: str) -> None:
    assert logged(format_, "detail", logging.DEBUG) == ""


def test_a_traceback_is_kept(format_: str) -> None:
    stream = io.StringIO()
    configure(format_, "info", stream)
    try:
        raise KeyError("missing")
    except KeyError:
        logging.getLogger("server.test").exception("room failed")
    assert "KeyError: 'missing'" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [TOKEN, f"GET /ws/notes?token={TOKEN}&x=1", "/ws/notes?token=opaque-secret", "Authorization: Bearer opaque-secret"],
)
def test_tokens_are_replaced_wherever_they_are(format_: str, text: str) -> None:
    for line in (logged(format_, text), logged(format_, "refused", detail=text)):
        assert TOKEN not in line
        assert "opaque-secret" not in line
        assert line.endswith("\n")


def test_bytes_are_shown_by_their_number(format_: str) -> None:
    line = logged(format_, "refused", update=b"what somebody wrote")
    assert "19 bytes" in line
    assert "somebody" not in line


def test_long_values_are_cut(format_: str) -> None:
    assert len(logged(format_, "refused", reason="x" * 100_000)) < 3_000


def test_libraries_are_quiet(format_: str) -> None:
    stream = io.StringIO()
    configure(format_, "debug", stream)
    logging.getLogger("asyncio").debug("Using selector")
    logging.getLogger("aiohttp.access").warning("GET /ws/notes?token=x")
    logging.getLogger("aiohttp.server").info("chatter")
    assert stream.getvalue() == ""
    logging.getLogger("aiohttp.server").error("Unhandled exception")
    assert "Unhandled exception" in stream.getvalue()
