"""What an error means to a client: the one table from error to HTTP status and WebSocket close code.

The errors themselves carry the stable `code` and the `reason`; the table adds what depends on the way they travel.
Close codes below 4000 are those of RFC 6455 and its registry; 4401, 4403 and 4408 are the ones that Hocuspocus clients
know. Hocuspocus 2 clients do not come back after 4401, 4403 and 1009, y-websocket clients from 3.1 on not after any code from
4400 to 4499; all other stock clients come back after any code.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from crdt import errors as crdt
from server import tokens
from server.access import errors as access
from sync.protocol import errors as protocol
from sync.rooms import errors as rooms


class CloseCode(IntEnum):
    """Why the server closes a WebSocket."""

    FRAMING = 1002
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_LATER = 1013
    MALFORMED = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    HANDSHAKE_TIMEOUT = 4408
    CONFLICT = 4409
    TOO_MANY = 4429


class Answer(NamedTuple):
    """How an error reaches a client: `title` is the same for every occurrence, as RFC 9457 wants it."""

    status: int
    close_code: CloseCode
    title: str


INTERNAL = Answer(500, CloseCode.INTERNAL, "The server made an error")

_MALFORMED = Answer(400, CloseCode.MALFORMED, "The message is malformed")
_UNAUTHENTICATED = Answer(401, CloseCode.UNAUTHENTICATED, "The token is not accepted")
_CORRUPTED = Answer(500, CloseCode.INTERNAL, "The document cannot be read")
_TOO_BIG = Answer(413, CloseCode.TOO_BIG, "Too large")

ANSWERS: Mapping[type[Exception], Answer] = {
    crdt.CrdtError: _MALFORMED,
    crdt.MalformedUpdate: Answer(400, CloseCode.MALFORMED, "The update is malformed"),
    crdt.MalformedStateVector: Answer(400, CloseCode.MALFORMED, "The state vector is malformed"),
    crdt.MalformedPresence: Answer(400, CloseCode.MALFORMED, "The awareness update is malformed"),
    crdt.TooManyTypes: Answer(413, CloseCode.TOO_BIG, "The document would have too many nested types"),
    crdt.TooManyParts: Answer(413, CloseCode.TOO_BIG, "The update has too many parts"),
    crdt.TooManyClients: Answer(413, CloseCode.TOO_BIG, "The document would have too many client ids"),
    crdt.TooManyCuts: Answer(503, CloseCode.TRY_LATER, "The update costs too much just now"),
    crdt.MissingCauses: Answer(409, CloseCode.CONFLICT, "The update builds on others that are missing"),
    protocol.ProtocolError: _MALFORMED,
    protocol.MalformedMessage: _MALFORMED,
    protocol.MalformedFrame: Answer(400, CloseCode.FRAMING, "The WebSocket frame is malformed"),
    protocol.MessageTooLong: _TOO_BIG,
    protocol.TruncatedMessage: _MALFORMED,
    protocol.OverlongInteger: _MALFORMED,
    protocol.IntegerOutOfRange: _MALFORMED,
    protocol.InvalidText: _MALFORMED,
    protocol.TrailingBytes: _MALFORMED,
    protocol.UnknownMessage: _MALFORMED,
    protocol.UnexpectedMessage: Answer(400, CloseCode.MALFORMED, "The message is not a client's to send"),
    protocol.BadDocumentName: Answer(400, CloseCode.MALFORMED, "The document name is not allowed"),
    protocol.BadSessionId: Answer(400, CloseCode.MALFORMED, "The session id is not allowed"),
    protocol.BadRequest: Answer(400, CloseCode.MALFORMED, "The request is malformed"),
    protocol.UnsupportedContentType: Answer(415, CloseCode.MALFORMED, "The content type is not supported"),
    protocol.FieldTooLong: _TOO_BIG,
    protocol.TooMuchWaiting: _TOO_BIG,
    protocol.TooManyDocuments: Answer(429, CloseCode.TOO_MANY, "Too many documents on one socket"),
    rooms.RoomError: INTERNAL,
    rooms.StoreUnavailable: Answer(503, CloseCode.TRY_LATER, "The store is unavailable"),
    rooms.StoreCorrupted: _CORRUPTED,
    rooms.DocumentUnreadable: _CORRUPTED,
    rooms.DocumentTooLarge: Answer(413, CloseCode.TOO_BIG, "The document would become too large"),
    rooms.UpdateTooLarge: Answer(413, CloseCode.TOO_BIG, "The update is too large"),
    rooms.Forbidden: Answer(403, CloseCode.FORBIDDEN, "Not allowed"),
    rooms.LineageDiffers: Answer(409, CloseCode.CONFLICT, "The document was made anew"),
    rooms.PeerIncoherent: Answer(409, CloseCode.CONFLICT, "The updates build on others that never come"),
    rooms.Overloaded: Answer(503, CloseCode.TRY_LATER, "The server has too much work"),
    rooms.AnswerFull: Answer(503, CloseCode.TRY_LATER, "The answer is full"),
    rooms.ShuttingDown: Answer(503, CloseCode.RESTART, "The server restarts"),
    tokens.TokenError: _UNAUTHENTICATED,
    tokens.TokenMissing: Answer(401, CloseCode.UNAUTHENTICATED, "A token is needed"),
    tokens.TokenMalformed: _UNAUTHENTICATED,
    tokens.TokenForged: _UNAUTHENTICATED,
    tokens.TokenExpired: Answer(401, CloseCode.UNAUTHENTICATED, "The token has expired"),
    tokens.TokenRevoked: Answer(401, CloseCode.UNAUTHENTICATED, "The token has been revoked"),
    tokens.TokenNotYet: _UNAUTHENTICATED,
    tokens.TokenWrongAudience: _UNAUTHENTICATED,
    tokens.TokenWrongIssuer: _UNAUTHENTICATED,
    tokens.TokenKeyUnavailable: Answer(503, CloseCode.TRY_LATER, "The token cannot be checked just now"),
    access.AccessError: INTERNAL,
    access.RateLimited: Answer(429, CloseCode.TRY_LATER, "Too often"),
    access.RevocationsFull: Answer(503, CloseCode.TRY_LATER, "Too many revocations"),
    access.RevocationNotSpread: Answer(503, CloseCode.TRY_LATER, "Not revoked everywhere"),
}


def answer(error: BaseException) -> Answer:
    """The row of the error's class or of its nearest ancestor; `INTERNAL` for what nobody expected."""
    return next((ANSWERS[each] for each in type(error).__mro__ if each in ANSWERS), INTERNAL)


def code(error: BaseException) -> str:
    """The stable code of an error that the table knows, `internal` for any other."""
    known = any(each in ANSWERS for each in type(error).__mro__)
    return str(getattr(error, "code", "internal")) if known else "internal"
