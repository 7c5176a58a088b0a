"""How a push is written: MessagePack (`application/msgpack`), or JSON (`application/json`) with base64 for bytes."""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from sync.protocol.errors import BadRequest, UnsupportedContentType
from sync.protocol.push import (
    MAX_ENTRIES,
    Entries,
    Pull,
    PushAnswer,
    PushEntry,
    PushRequest,
    Receipt,
    Refusal,
    check_entry,
    request,
)

MSGPACK: Final = "application/msgpack"
JSON: Final = "application/json"

PIECE: Final = 1 << 16
"""Bytes of a delta that are written at a time."""

# Containers cost many times their encoded size in memory. So `entries` and `pull` are read item by item, each entry is
# checked as soon as it is read, and containers inside of one leave nothing behind.
_MAX_ENTRY_WIDTH = 16
# JSON is parsed as a whole, so it is counted first. Names may contain these characters, hence the ample allowance.
_MAX_JSON_MARKS_PER_ENTRY = 16


def decode_push(body: bytes, content_type: str, *, max_entries: int = MAX_ENTRIES) -> PushRequest:
    """The request in a body, whose size the caller has bounded. `content_type` may have parameters.

    Raises `UnsupportedContentType`, `BadRequest` or `BadDocumentName` (in `pull`). Keys that are not known are ignored.
    """
    kind = _media_type(content_type)
    return _decode_msgpack(body, max_entries) if kind == MSGPACK else _decode_json(body, max_entries)


def encode_answer(answer: PushAnswer, content_type: str) -> Iterator[bytes | memoryview]:
    """An answer, written like the request whose `content_type` this is. Raises `UnsupportedContentType` at once.

    It comes in pieces, each made when it is asked for: a delta may have many MiB, several answers may hold the same, and a
    client may take its time.
    """
    write = _write_msgpack if _media_type(content_type) == MSGPACK else _write_json
    return _gathered(write(answer))


def _media_type(content_type: str) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (MSGPACK, JSON):
        raise UnsupportedContentType
    return kind


def _decode_msgpack(body: bytes, max_entries: int) -> PushRequest:
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(body) or 1,
        object_hook=check_entry,
        list_hook=_discard,
        ext_hook=_refuse_extension,
        max_array_len=_MAX_ENTRY_WIDTH,
        max_map_len=_MAX_ENTRY_WIDTH,
        max_ext_len=0,
    )
    entries, pull = Entries(), Pull()
    fields: dict[object, object] = {}
    try:
        unpacker.feed(body)
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if key in fields:
                raise BadRequest("a key occurs twice")
            fields[key] = None
            if key == "entries":
                count = _within(unpacker.read_array_header(), max_entries)
                entries.extend(unpacker.unpack() for _ in range(count))
            elif key == "pull":
                for _ in range(unpacker.read_map_header()):
                    pull.add(unpacker.unpack(), unpacker.unpack())
            elif key in ("device", "since"):
                fields[key] = unpacker.unpack()
            else:
                unpacker.skip()
    except (ValueError, msgpack.UnpackException):
        raise BadRequest("the body is not MessagePack as described in the documentation") from None
    if unpacker.tell() != len(body):
        raise BadRequest("bytes follow the message")
    return request(fields.get("device"), entries, pull, fields.get("since"))


def _discard(_items: list[object]) -> None:
    return None


def _refuse_extension(code: int, _data: bytes) -> object:
    raise ValueError(code)


def _decode_json(body: bytes, max_entries: int) -> PushRequest:
    if max(body.count(mark) for mark in (b"{", b"[", b",")) > _MAX_JSON_MARKS_PER_ENTRY * (max_entries + 1):
        raise BadRequest("the body has more values than a push can have")
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if type(document) is not dict:
        raise BadRequest("the body is not an object")
    entries, pull = Entries(), Pull()
    listed = _of_type(list, document.get("entries", []), "entries is not an array")
    _within(len(listed), max_entries)
    entries.extend(map(_decode_entry, listed))
    for doc, state_vector in _of_type(dict, document.get("pull", {}), "pull is not an object").items():
        pull.add(doc, _from_base64(state_vector))
    return request(document.get("device"), entries, pull, document.get("since"))


def _within(count: int, max_entries: int) -> int:
    if count > max_entries:
        raise BadRequest(f"more than {max_entries} entries")
    return count


def _decode_entry(fields: object) -> PushEntry | Receipt | None:
    if type(fields) is not dict:
        return None
    return check_entry({**fields, "update": _from_base64(fields.get("update"))})


def _of_type(kind: type, value: Any, reason: str) -> Any:
    if type(value) is not kind:
        raise BadRequest(reason)
    return value


def _from_base64(text: object) -> bytes | None:
    if type(text) is not str:
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


def _gathered(parts: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The parts, of which small ones are put together."""
    waiting = bytearray()
    for part in parts:
        if len(part) == PIECE:
            if waiting:
                yield bytes(waiting)
                waiting.clear()
            yield part
        else:
            waiting += part
            if len(waiting) >= PIECE:
                yield bytes(waiting)
                waiting.clear()
    yield bytes(waiting)


def _write_msgpack(answer: PushAnswer) -> Iterator[bytes | memoryview]:
    packer = msgpack.Packer()
    rest = {"changed": _changed(answer), "cursor": answer.cursor, "more": answer.more}
    yield packer.pack_map_header(2 + len(rest))
    yield packer.pack("receipts") + packer.pack([_receipt(receipt) for receipt in answer.receipts])
    yield packer.pack("deltas") + packer.pack_map_header(len(answer.deltas))
    for doc, delta in answer.deltas.items():
        yield packer.pack(doc)
        if isinstance(delta, Refusal):
            yield packer.pack(delta._asdict())
            continue
        # "bin 32" of the MessagePack specification.
        yield packer.pack_map_header(3) + packer.pack("update") + b"\xc6" + len(delta.update).to_bytes(4, "big")
        yield from _slices(delta.update, PIECE)
        yield packer.pack("seq") + packer.pack(delta.seq) + packer.pack("lineage") + packer.pack(delta.lineage)
    for key, value in rest.items():
        yield packer.pack(key) + packer.pack(value)


def _write_json(answer: PushAnswer) -> Iterator[bytes]:
    yield b'{"receipts":' + _json([_receipt(receipt) for receipt in answer.receipts]) + b',"deltas":{'
    comma = b""
    for doc, delta in answer.deltas.items():
        yield comma + _json(doc) + b":"
        comma = b","
        if isinstance(delta, Refusal):
            yield _json(delta._asdict())
            continue
        yield b'{"update":"'
        for part in _slices(delta.update, PIECE // 4 * 3):
            yield binascii.b2a_base64(part, newline=False)
        yield b'","seq":%d,"lineage":%b}' % (delta.seq, _json(delta.lineage))
    yield b'},"changed":%b,"cursor":%b,"more":%b}' % (_json(_changed(answer)), _json(answer.cursor), _json(answer.more))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _slices(update: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(update)
    return (view[start : start + size] for start in range(0, len(update), size))


def _changed(answer: PushAnswer) -> list[dict[str, object]]:
    return [{"doc": changed.doc, "seq": changed.seq} for changed in answer.changed]


def _receipt(receipt: Receipt) -> Mapping[str, object]:
    if receipt.code is None:
        return {"id": receipt.id, "status": receipt.status, "seq": receipt.seq}
    return {"id": receipt.id, "status": receipt.status, "code": receipt.code, "reason": receipt.reason}
