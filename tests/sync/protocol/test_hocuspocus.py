from __future__ import annotations

from typing import Any

import pytest

from sync.protocol.errors import (
    BadDocumentName,
    BadSessionId,
    FieldTooLong,
    InvalidText,
    ProtocolError,
    TrailingBytes,
    TruncatedMessage,
    UnexpectedMessage,
    UnknownMessage,
)
from sync.protocol.hocuspocus import MAX_TOKEN_BYTES, Hocuspocus
from sync.protocol.lib0 import write_var_string, write_var_uint
from sync.protocol.messages import AuthToken, AwarenessQuery, CloseDocument, Ping, Pong, SyncStep1, SyncUpdate
from tests.golden.vectors import VECTORS, kind_and_fields, message, revive

DIALECT = Hocuspocus()
PLAN = write_var_string("plan")


@pytest.mark.parametrize("vector", VECTORS["clients"]["hocuspocus"], ids=lambda vector: str(vector["client"]))
def test_what_stock_clients_send_is_understood_whatever_came_before(vector: dict[str, Any]) -> None:
    expected = message(vector["message"])
    for last in ("", expected.address, "pla", "plan", "another", expected.address + "x"):
        assert kind_and_fields(DIALECT.decode(bytes.fromhex(vector["frame"]), last)) == kind_and_fields(expected)


@pytest.mark.parametrize("vector", VECTORS["servers"]["hocuspocus"], ids=lambda vector: str(vector["method"]))
def test_what_is_sent_is_what_the_libraries_write(vector: dict[str, Any]) -> None:
    method = getattr(DIALECT, vector["method"])
    assert method(*revive(vector["arguments"])) == bytes.fromhex(vector["payload"])


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 100_000])
@pytest.mark.parametrize("last", ["", "計画"])
def test_updates_of_any_size_are_read(size: int, last: str) -> None:
    update = bytes(size)
    assert kind_and_fields(DIALECT.decode(DIALECT.update("計画", update), last)) == kind_and_fields(SyncUpdate("計画", update))
    assert kind_and_fields(DIALECT.decode(DIALECT.step1("計画", update), last)) == kind_and_fields(SyncStep1("計画", update))


def test_ping_and_pong_have_no_address() -> None:
    assert kind_and_fields(DIALECT.decode(b"\x09", "plan")) == kind_and_fields(Ping())
    assert kind_and_fields(DIALECT.decode(b"\x0a", "plan")) == kind_and_fields(Pong())
    assert DIALECT.pong() == b"\x0a"


def test_documents_whose_name_has_nine_bytes_are_not_pings() -> None:
    frame = write_var_string("documents") + b"\x03"
    assert kind_and_fields(DIALECT.decode(frame, "")) == kind_and_fields(AwarenessQuery("documents"))


def test_a_provider_may_say_more_behind_its_version() -> None:
    frame = PLAN + b"\x02\x00" + write_var_string("t") + write_var_string("5.0.0") + b"future"
    assert kind_and_fields(DIALECT.decode(frame, "")) == kind_and_fields(AuthToken("plan", "t", "5.0.0"))


def test_a_close_may_have_a_reason() -> None:
    assert kind_and_fields(DIALECT.decode(PLAN + b"\x07", "plan")) == kind_and_fields(CloseDocument("plan", ""))
    assert kind_and_fields(DIALECT.decode(PLAN + b"\x07" + write_var_string("bye"), "plan")) == kind_and_fields(
        CloseDocument("plan", "bye")
    )


@pytest.mark.parametrize("kind", [4, 6, 8, 9, 10])
def test_what_only_servers_send_is_refused(kind: int) -> None:
    with pytest.raises(UnexpectedMessage) as raised:
        DIALECT.decode(PLAN + bytes([kind]) + b"\x00\x00", "plan")
    assert raised.value.number == kind


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"", TruncatedMessage),
        (b"\x04pla", TruncatedMessage),
        (PLAN, TruncatedMessage),
        (PLAN + b"\x00", TruncatedMessage),
        (PLAN + b"\x00\x02", TruncatedMessage),
        (PLAN + b"\x00\x02\x02a", TruncatedMessage),
        (PLAN + b"\x00\x02\x01ab", TrailingBytes),
        (PLAN + b"\x00\x03\x00", UnknownMessage),
        (PLAN + b"\x03\x00", TrailingBytes),
        (PLAN + b"\x0b", UnknownMessage),
        (PLAN + b"\x02\x01" + write_var_string("no"), UnexpectedMessage),
        (PLAN + b"\x02\x00", TruncatedMessage),
        (PLAN + b"\x02\x00" + write_var_string("t" * (MAX_TOKEN_BYTES + 1)), FieldTooLong),
        (PLAN + b"\x02\x00\x01t" + write_var_string("v" * 65), FieldTooLong),
        (PLAN + b"\x05\x01\xff", InvalidText),
        (b"\x01\xff\x03", InvalidText),
        (b"\x00\x00\x02\x00", BadDocumentName),
        (b"\x01\n\x03", BadDocumentName),
        (write_var_string("x" * 201) + b"\x03", BadDocumentName),
        (write_var_string("plan\0") + b"\x03", BadSessionId),
        (write_var_uint(2**40) + b"plan", TruncatedMessage),
    ],
)
@pytest.mark.parametrize("last", ["", "plan"])
def test_what_is_not_one_message_is_refused(frame: bytes, error: type[ProtocolError], last: str) -> None:
    with pytest.raises(error):
        DIALECT.decode(frame, last)
