"""Everything that can be wrong with what a client sent. The list is closed: no decoder here raises anything else.

Codes are stable and part of the outside interface. Which WebSocket close code or HTTP status an error becomes is the
server's decision.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """The root. `code` is stable; `reason` is one sentence for whoever wrote the client, without document content."""

    code = "protocol-error"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MalformedMessage(ProtocolError):
    """The bytes are not a message. The subclasses say in which way."""

    code = "malformed-message"


class MalformedFrame(ProtocolError):
    """The bytes are not WebSocket frames as RFC 6455 has them, without extensions."""

    code = "malformed-frame"


class MessageTooLong(ProtocolError):
    """A WebSocket message is longer than `limit` bytes."""

    code = "message-too-long"

    def __init__(self, limit: int) -> None:
        super().__init__(f"a message has more than {limit} bytes")
        self.limit = limit


class TruncatedMessage(MalformedMessage):
    """The message ends before what it announces."""

    code = "truncated-message"

    def __init__(self) -> None:
        super().__init__("the message ends before what it announces")


class OverlongInteger(MalformedMessage):
    """A variable-length integer goes on after its tenth byte."""

    code = "overlong-integer"

    def __init__(self) -> None:
        super().__init__("a variable-length integer is longer than 10 bytes")


class IntegerOutOfRange(MalformedMessage):
    """An integer is above 2**53 - 1, the largest that a JavaScript client can mean."""

    code = "integer-out-of-range"

    def __init__(self) -> None:
        super().__init__("an integer is larger than 2**53 - 1")


class InvalidText(MalformedMessage):
    """A string is not UTF-8."""

    code = "invalid-text"

    def __init__(self) -> None:
        super().__init__("a string is not valid UTF-8")


class TrailingBytes(MalformedMessage):
    """A frame goes on after its message. `count` is the number of bytes too many."""

    code = "trailing-bytes"

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} bytes follow the message; a frame holds one message")
        self.count = count


class UnknownMessage(MalformedMessage):
    """A message type that the protocol does not have. `number` says which."""

    code = "unknown-message"

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no message type {number}")
        self.number = number


class UnexpectedMessage(ProtocolError):
    """A message that the protocol has, but that a client does not send. `number` says which."""

    code = "unexpected-message"

    def __init__(self, number: int) -> None:
        super().__init__(f"message type {number} is not a client's to send")
        self.number = number


class BadDocumentName(ProtocolError):
    """Not 1 to 200 UTF-8 bytes without control characters and surrogates."""

    code = "bad-document-name"

    def __init__(self) -> None:
        super().__init__("a document name is 1 to 200 bytes of UTF-8 without control characters")


class BadSessionId(ProtocolError):
    """The part of an address after the document name is not 1 to 128 UTF-8 bytes without control characters."""

    code = "bad-session-id"

    def __init__(self) -> None:
        super().__init__("a session id is 1 to 128 bytes of UTF-8 without control characters")


class FieldTooLong(ProtocolError):
    """`field` of a message is longer than `limit` bytes."""

    code = "field-too-long"

    def __init__(self, field: str, limit: int) -> None:
        super().__init__(f"{field} is longer than {limit} bytes")
        self.field = field
        self.limit = limit


class TooMuchWaiting(ProtocolError):
    """A socket sent more before its authentication than is kept. `limit` says how much that is."""

    code = "too-much-waiting"

    def __init__(self, limit: str) -> None:
        super().__init__(f"more than {limit} wait for authentication on this socket")
        self.limit = limit


class TooManyDocuments(ProtocolError):
    """A socket opened more than `limit` documents."""

    code = "too-many-documents"

    def __init__(self, limit: int) -> None:
        super().__init__(f"this socket has more than {limit} documents open")
        self.limit = limit


class UnsupportedContentType(ProtocolError):
    """A body is of a content type that its resource does not take: a push is MessagePack or JSON."""

    code = "unsupported-content-type"

    def __init__(self, reason: str = "send application/msgpack or application/json") -> None:
        super().__init__(reason)


class BadRequest(ProtocolError):
    """A body that cannot be understood as a whole, or is over a bound. Nothing of it was looked at."""

    code = "bad-request"
