"""The golden vectors: what the JavaScript libraries write, made by `make_vectors.mjs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from sync.protocol import messages
from sync.protocol.dialect import Dialect
from sync.protocol.hocuspocus import Hocuspocus
from sync.protocol.messages import DocumentMessage, Message
from sync.protocol.yws import YWebSocket

VECTORS: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors.json").read_text())

DIALECTS: Final[dict[str, Dialect]] = {"y-websocket": YWebSocket(), "hocuspocus": Hocuspocus()}

_BYTES = ("state_vector", "update")


def message(fields: dict[str, Any]) -> DocumentMessage:
    """The message that a client's vector says its frame is."""
    kind = getattr(messages, fields["type"])
    values = {key: bytes.fromhex(value) if key in _BYTES else value for key, value in fields.items() if key != "type"}
    made: DocumentMessage = kind(**values)
    return made


def kind_and_fields(message: Message) -> tuple[type, Message]:
    """What to compare messages by: as tuples alone, an edit equals a step 2 with the same bytes."""
    return type(message), message


def revive(value: Any) -> Any:
    """A value of a vector with its bytes, which are written `{"hex": ...}`."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if set(value) == {"hex"} else {key: revive(each) for key, each in value.items()}
    return [revive(each) for each in value] if isinstance(value, list) else value


def client_frames(dialect: str) -> list[bytes]:
    """Every frame that a stock client of a dialect sent."""
    return [bytes.fromhex(vector["frame"]) for vector in VECTORS["clients"][dialect]]
