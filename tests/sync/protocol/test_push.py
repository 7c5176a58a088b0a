from __future__ import annotations

import base64
import json
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from sync.protocol.errors import BadDocumentName, BadRequest, UnsupportedContentType
from sync.protocol.push import Changed, Delta, PushAnswer, PushEntry, Receipt, Refusal
from sync.protocol.push_codec import PIECE, decode_push, encode_answer
from tests.golden.vectors import VECTORS, revive

MSGPACK = "application/msgpack"
JSON = "application/json"


def as_json(value: Any) -> bytes:
    return json.dumps(value, default=lambda each: base64.b64encode(each).decode()).encode()


WRITERS = [pytest.param(msgpack.packb, MSGPACK, id="msgpack"), pytest.param(as_json, JSON, id="json")]
writers = pytest.mark.parametrize(("write", "kind"), WRITERS)

GOOD = {"id": "1", "doc": "plan", "update": b"\x00\x00"}


@pytest.mark.parametrize("vector", VECTORS["push"])
@pytest.mark.parametrize("kind", [MSGPACK, JSON])
def test_requests_written_in_javascript_are_understood(vector: dict[str, Any], kind: str) -> None:
    body = bytes.fromhex(vector["msgpack"]) if kind == MSGPACK else vector["json"].encode()
    expected = revive(vector["request"])
    request = decode_push(body, kind)
    assert request.device == expected["device"]
    assert request.entries == [
        PushEntry(entry["id"], entry["doc"], entry.get("lineage"), entry["update"]) for entry in expected["entries"]
    ]
    assert request.pull == expected.get("pull", {})
    assert request.since == expected.get("since")
    assert request.rejected == {}


@writers
def test_a_request_needs_no_more_than_a_device(write: Any, kind: str) -> None:
    assert decode_push(write({"device": "d"}), f"{kind}; charset=utf-8") == ("d", [], {}, {}, None)


@writers
def test_keys_that_are_not_known_are_ignored(write: Any, kind: str) -> None:
    body = {"device": "d", "future": {"a": [1, {}]}, "entries": [{**GOOD, "future": [{"id": "x"}, None]}]}
    assert decode_push(write(body), kind).entries == [PushEntry("1", "plan", None, b"\x00\x00")]


@writers
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"doc": ""}, "bad-document-name"),
        ({"doc": "x" * 201}, "bad-document-name"),
        ({"doc": "a\nb"}, "bad-document-name"),
        ({"doc": None}, "bad-document-name"),
        ({"doc": 7}, "bad-document-name"),
        ({"doc": {"id": "2"}}, "bad-document-name"),
        ({"doc": {"id": "2", "doc": "d", "update": b""}}, "bad-document-name"),
        ({"update": None}, "malformed-update"),
        ({"update": 7}, "malformed-update"),
        ({"update": "no base64!"}, "malformed-update"),
        ({"update": [b"\x00"]}, "malformed-update"),
        ({"lineage": 7}, "bad-lineage"),
        ({"lineage": ""}, "bad-lineage"),
        ({"lineage": "x" * 129}, "bad-lineage"),
    ],
)
def test_a_wrong_entry_is_rejected_at_its_place_and_blocks_nothing(
    write: Any, kind: str, change: dict[str, Any], code: str
) -> None:
    entries = [GOOD, {**GOOD, "id": "bad", **change}, {**GOOD, "id": "3"}]
    request = decode_push(write({"device": "d", "entries": entries}), kind)
    assert [entry.id for entry in request.entries] == ["1", "3"]
    assert [(place, receipt.id, receipt.status, receipt.code) for place, receipt in request.rejected.items()] == [
        (1, "bad", "rejected", code)
    ]
    taken = [Receipt("1", "applied", 4), Receipt("3", "duplicate", 2)]
    assert [receipt.id for receipt in request.receipts(taken)] == ["1", "bad", "3"]


@writers
def test_an_id_may_repeat(write: Any, kind: str) -> None:
    request = decode_push(write({"device": "d", "entries": [GOOD, GOOD]}), kind)
    assert [entry.id for entry in request.entries] == ["1", "1"]


@writers
@pytest.mark.parametrize(
    "body",
    [
        [],
        7,
        {},
        {"device": ""},
        {"device": 7},
        {"device": "x" * 129},
        {"device": "a\tb"},
        {"device": "d", "entries": {}},
        {"device": "d", "entries": 7},
        {"device": "d", "entries": [7]},
        {"device": "d", "entries": [[]]},
        {"device": "d", "entries": [None]},
        {"device": "d", "entries": [{}]},
        {"device": "d", "entries": [{**GOOD, "id": ""}]},
        {"device": "d", "entries": [{**GOOD, "id": 7}]},
        {"device": "d", "entries": [{**GOOD, "id": "x" * 129}]},
        {"device": "d", "entries": [GOOD, {"doc": "plan", "update": b""}]},
        {"device": "d", "pull": []},
        {"device": "d", "pull": {"plan": 7}},
        {"device": "d", "pull": {"plan": {"id": "1"}}},
        {"device": "d", "pull": {f"plan-{number}": b"\x00" for number in range(1001)}},
        {"device": "d", "since": -1},
        {"device": "d", "since": 2**53},
        {"device": "d", "since": "7"},
        {"device": "d", "since": 1.0},
        {"device": "d", "since": True},
    ],
)
def test_a_body_that_makes_no_sense_as_a_whole_is_one_error(write: Any, kind: str, body: Any) -> None:
    with pytest.raises(BadRequest):
        decode_push(write(body), kind)


@writers
def test_a_pull_of_what_cannot_be_a_document_is_refused(write: Any, kind: str) -> None:
    with pytest.raises(BadDocumentName):
        decode_push(write({"device": "d", "pull": {"a\nb": b"\x00"}}), kind)


@writers
def test_entries_are_bounded(write: Any, kind: str) -> None:
    body = write({"device": "d", "entries": [GOOD] * 6})
    assert len(decode_push(body, kind, max_entries=6).entries) == 6
    with pytest.raises(BadRequest):
        decode_push(body, kind, max_entries=5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81",
        msgpack.packb({"device": "d"}) + b"\x00",
        msgpack.packb({"device": "d"})[:-1],
        b"\x82" + b"\xa6device\xa1d" * 2,
        b"\x81\xa7entries\xdd\xff\xff\xff\xff",
        b"\x81\xa4pull\xdf\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa7entries\x91\xdd\x00\x00\x00\x11" + b"\xc0" * 17,
        b"\x81\xa6device\xd4\x01\x00",
        b"\x81\xa6device\xd6\xff\x00\x00\x00\x00",
        b"\x81\xa6device\xc7\x00\x01",
        b"\x81\xa6device\xa1\xff",
        b"\x81\x91\x01\x01",
        b"\x81\xa7entries\x91" + b"\x91" * 5000,
        b"\x81\xa7entries\x91" + b"\x81\xa1a" * 5000,
    ],
)
def test_what_is_not_messagepack_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_push(body, MSGPACK)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b'{"device": "d"} x',
        b"\xef\xbb\xbf{}",
        '{"device": "d"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"device": "\\ud800"}',
        b'{"device": "d", "since": ' + b"9" * 5000 + b"}",
        b'{"device": "d", "entries": [' + b"[]," * 200_000 + b"[]]}",
        b'{"device": "d", "entries": [' + b"0," * 200_000 + b"0]}",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_push(body, JSON)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream", "application/msgpackx"])
def test_other_content_types_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedContentType):
        decode_push(b"\x80", kind)
    with pytest.raises(UnsupportedContentType):
        encode_answer(PushAnswer([], {}, [], None, more=False), kind)


def test_answers_say_the_same_in_both_ways_of_writing() -> None:
    answer = PushAnswer(
        [Receipt("1", "applied", 4), Receipt("2", "rejected", None, "malformed-update", "kaputt 🌊")],
        {"計画": Delta(b"\x00\x00", 4, "l-1"), "fort": Refusal("forbidden", "not yours")},
        [Changed("計画", 4)],
        17,
        more=True,
    )
    expected = {
        "receipts": [
            {"id": "1", "status": "applied", "seq": 4},
            {"id": "2", "status": "rejected", "code": "malformed-update", "reason": "kaputt 🌊"},
        ],
        "deltas": {
            "計画": {"update": b"\x00\x00", "seq": 4, "lineage": "l-1"},
            "fort": {"code": "forbidden", "reason": "not yours"},
        },
        "changed": [{"doc": "計画", "seq": 4}],
        "cursor": 17,
        "more": True,
    }
    assert msgpack.unpackb(b"".join(encode_answer(answer, MSGPACK))) == expected
    expected["deltas"]["計画"]["update"] = "AAA="  # type: ignore[index]
    assert json.loads(b"".join(encode_answer(answer, JSON))) == expected


@pytest.mark.parametrize("kind", [MSGPACK, JSON])
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE])
def test_answers_come_in_small_pieces(kind: str, size: int) -> None:
    update = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    answer = PushAnswer([], {"a": Delta(update, 1, None), "b": Delta(update, 1, None)}, [], None, more=False)
    pieces = list(encode_answer(answer, kind))
    body = b"".join(pieces)
    decoded = msgpack.unpackb(body) if kind == MSGPACK else json.loads(body)
    for delta in decoded["deltas"].values():
        assert update == (delta["update"] if kind == MSGPACK else base64.b64decode(delta["update"]))
    assert max(map(len, pieces)) < 2 * PIECE
    assert len(pieces) <= 2 * len(body) // PIECE + 3
