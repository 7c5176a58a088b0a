from __future__ import annotations

from typing import Any

import pytest

from sync.protocol.errors import ProtocolError, TrailingBytes, TruncatedMessage, UnexpectedMessage, UnknownMessage
from sync.protocol.messages import Awareness, AwarenessQuery, SyncStep1, SyncStep2, SyncUpdate
from sync.protocol.yws import YWebSocket
from tests.golden.vectors import VECTORS, kind_and_fields, message, revive

DIALECT = YWebSocket()


@pytest.mark.parametrize("vector", VECTORS["clients"]["y-websocket"], ids=lambda vector: str(vector["client"]))
def test_what_stock_clients_send_is_understood(vector: dict[str, Any]) -> None:
    assert kind_and_fields(DIALECT.decode(bytes.fromhex(vector["frame"]), vector["document"])) == kind_and_fields(
        message(vector["message"])
    )


@pytest.mark.parametrize("vector", VECTORS["servers"]["y-websocket"], ids=lambda vector: str(vector["method"]))
def test_what_is_sent_is_what_the_libraries_write(vector: dict[str, Any]) -> None:
    method = getattr(DIALECT, vector["method"])
    assert method(*revive(vector["arguments"])) == bytes.fromhex(vector["payload"])


def test_an_edit_is_acknowledged_by_sending_it_back() -> None:
    assert DIALECT.acknowledged("plan", b"edit") == DIALECT.update("plan", b"edit")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("refused", ["plan"]),
        ("granted", ["plan", True]),
        ("reauthenticate", ["plan"]),
        ("pong", []),
    ],
)
def test_messages_that_the_protocol_lacks_are_not_sent(method: str, arguments: list[Any]) -> None:
    assert getattr(DIALECT, method)(*arguments) is None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 100_000])
def test_updates_of_any_size_are_read(size: int) -> None:
    update = bytes(size)
    assert kind_and_fields(DIALECT.decode(DIALECT.update("plan", update), "plan")) == kind_and_fields(
        SyncUpdate("plan", update)
    )
    assert kind_and_fields(DIALECT.decode(DIALECT.step2("plan", update), "plan")) == kind_and_fields(SyncStep2("plan", update))
    assert kind_and_fields(DIALECT.decode(DIALECT.step1("plan", update), "plan")) == kind_and_fields(SyncStep1("plan", update))
    assert kind_and_fields(DIALECT.decode(DIALECT.awareness("plan", update), "plan")) == kind_and_fields(
        Awareness("plan", update)
    )


def test_a_query_for_awareness_is_understood() -> None:
    assert kind_and_fields(DIALECT.decode(b"\x03", "plan")) == kind_and_fields(AwarenessQuery("plan"))


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"", TruncatedMessage),
        (b"\x00", TruncatedMessage),
        (b"\x00\x02", TruncatedMessage),
        (b"\x00\x02\x02a", TruncatedMessage),
        (b"\x00\x02\x80", TruncatedMessage),
        (b"\x00\x02\x01ab", TrailingBytes),
        (b"\x00\x02\x00\x00\x02\x00", TrailingBytes),
        (b"\x03\x03", TrailingBytes),
        (b"\x00\x03\x00", UnknownMessage),
        (b"\x02\x00\x00", UnexpectedMessage),
        (b"\x04", UnknownMessage),
        (b"\x80\x01", UnknownMessage),
    ],
)
def test_what_is_not_one_message_is_refused(frame: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        DIALECT.decode(frame, "plan")


@pytest.mark.parametrize("size", [0, 1, 2, 126, 127, 128, 129, 300])
def test_a_short_edit_is_what_decoding_it_gives_and_a_longer_one_is_left_to_that(size: int) -> None:
    update = bytes(size)
    frame = DIALECT.update("plan", update)
    assert DIALECT.edit(frame) == (update if size < 128 else None)
    assert DIALECT.decode(frame, "plan") == SyncUpdate("plan", update)
    assert DIALECT.edit(frame + b"x") is None
    assert DIALECT.edit(frame[:-1]) is None
    assert DIALECT.edit(DIALECT.step2("plan", update)) is None
