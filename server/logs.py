"""Logs: one line an event on stderr, JSON for machines or text for people, from the standard library's loggers.

A line is a constant message and fields: `log.error("store not polled", extra={"reason": ...})`. No token and no
document content belongs in either. Whoever logs sees to that; the formatters still replace what looks like a token and
show bytes by their number alone, since a library's exception can quote anything.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_MAX_VALUE_CHARS = 2_000
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_PARAMETER = re.compile(r"(?i)(token=|bearer\s+)[^&\s\"'\\]+")


def configure(format_: str, level: str, stream: TextIO | None = None, *, worker: int | None = None) -> None:
    """Send the logs of the whole process to `stream` (stderr unless given), as `text` or `json`, from `level` up.

    With the number of a `worker`, every line has that as a field.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    if worker is not None:
        handler.addFilter(_naming(worker))
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Its lines hold whole addresses, and with them the tokens of WebSockets; ours are counted instead.
    logging.getLogger("aiohttp.access").disabled = True
    # The drivers' debug lines hold every command, and with it the documents' content.
    for noisy in ("asyncio", "aiohttp", "motor", "pymongo", "redis"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _naming(worker: int) -> Callable[[logging.LogRecord], bool]:
    def name(record: logging.LogRecord) -> bool:
        record.worker = worker
        return True

    return name


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, the fields, and a traceback in `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`; one line, without tokens."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _without_tokens(json.dumps(line, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """Time, level, logger, message and `field=value`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`; without tokens."""
        fields = "".join(f" {name}={json.dumps(value, ensure_ascii=False)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return _without_tokens(line)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(record).items() if name not in _STANDARD}


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    text = str(value)
    return text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "..."


def _without_tokens(line: str) -> str:
    return _PARAMETER.sub(r"\1[removed]", _JWT.sub("[token]", line))
