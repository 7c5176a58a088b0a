"""Which documents one socket may use, and what has to wait until that is known."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final, NamedTuple

from sync.protocol.dialect import Dialect
from sync.protocol.errors import TooManyDocuments, TooMuchWaiting
from sync.protocol.messages import AuthToken, CloseDocument, DocumentMessage, Message, Ping, Pong, SyncStep1, SyncUpdate


class SessionLimits(NamedTuple):
    """Bounds for one socket. Those on what waits are what @hocuspocus/server has (`ClientConnection.ts`)."""

    waiting_bytes: int = 5 << 20
    waiting_messages: int = 1000
    documents: int = 1000
    """Documents open or waiting at the same time; closed ones, remembered or not, do not count."""


DEFAULT_LIMITS: Final = SessionLimits()


class _State(Enum):
    NEW = auto()
    """Messages came, a token did not."""
    ASKED = auto()
    """The token is being checked."""
    OPEN = auto()
    REFRESHING = auto()
    """Open, and a further token is being checked."""


class _Document:
    __slots__ = ("checked_bytes", "queue", "sent_token", "state")

    def __init__(self) -> None:
        self.state = _State.NEW
        self.sent_token = False
        self.checked_bytes = 0
        """The length of the token that is being checked."""
        self.queue: deque[tuple[DocumentMessage, int]] = deque()


class Session:
    """One socket of a protocol with many documents a socket. Bytes in, messages out; no I/O.

    A provider sends its token and does not wait: what follows at once belongs behind the check. So `receive` gives an
    `AuthToken` out and holds back what comes for its document until `grant` or `deny`. The caller's duties: answer each
    `AuthToken` with exactly one `grant` or `deny`, treat what these return like what `receive` returns, and close the
    socket when anything here raises. While a granted document's token is renewed, its messages keep flowing.

    Whether an operation is allowed is for whoever performs it to check.
    """

    def __init__(self, dialect: Dialect, limits: SessionLimits = DEFAULT_LIMITS, *, anonymous: bool = False) -> None:
        """`anonymous`: a sync step 1 before any token counts as an empty token.

        Providers up to 2.x send no token where none is configured, and step 1 is always the first that they send then.
        """
        self._decode = dialect.decode
        self._limits = limits
        self._anonymous = anonymous
        self._documents: dict[str, _Document] = {}
        # Documents denied or closed, and whether a token was sent: what is still on its way for them is dropped.
        self._shut: dict[str, bool] = {}
        self._last = ""
        self._checked_bytes = 0
        self._waiting_bytes = 0
        self._waiting_messages = 0

    @property
    def held(self) -> int:
        """The bytes of tokens that are being checked, and of messages that wait for one."""
        return self._checked_bytes + self._waiting_bytes

    @property
    def crowded(self) -> bool:
        """Whether half of what may wait does: time to stop reading, if the tokens that it waits for are being checked."""
        limits = self._limits
        return self._waiting_bytes * 2 > limits.waiting_bytes or self._waiting_messages * 2 > limits.waiting_messages

    def receive(self, frame: bytes) -> list[Message]:
        """The messages that are ready now that `frame` came, in order. Raises `ProtocolError`."""
        message = self._decode(frame, self._last)
        if isinstance(message, (Ping, Pong)):
            return [message]
        self._last = address = message.address
        if isinstance(message, SyncUpdate):
            # Nearly all messages are edits of an open document, so they skip the general case.
            document = self._documents.get(address)
            if document is not None and document.state is _State.OPEN:
                return [message]
        return self._advance(address, message, len(frame))

    def grant(self, address: str) -> list[Message]:
        """The token is good: the messages that waited for it, in order."""
        document = self._documents.get(address) or self._add(address)
        self._answered(document)
        document.state = _State.OPEN
        return self._replay(address, self._unqueue(document))

    def deny(self, address: str) -> list[Message]:
        """The token is not good: what waited for it is dropped, and so is what comes before the next token.

        If a further token waits already, it is returned to be checked.
        """
        document = self._documents.get(address)
        if document is None:
            return []
        self._answered(document)
        waiting = self._unqueue(document)
        self._forget(address, document)
        while waiting and not isinstance(waiting[0][0], AuthToken):
            waiting.popleft()
        return self._replay(address, waiting)

    def close(self, address: str) -> None:
        """The server ends its side of a document: what comes before the next token is dropped.

        A token that is being checked stays so, and its answer decides anew.
        """
        document = self._documents.get(address)
        if document is None:
            return
        if document.state is _State.REFRESHING:
            document.state = _State.ASKED
        elif document.state is not _State.ASKED:
            self._unqueue(document)
            self._forget(address, document)

    def _advance(self, address: str, message: DocumentMessage, size: int) -> list[Message]:
        document = self._documents.get(address)
        if document is None:
            if address in self._shut and not self._reopens(address, message):
                return []
            document = self._add(address)
        state = document.state
        if state is _State.NEW:
            return self._advance_new(address, document, message, size)
        if state is _State.OPEN:
            if isinstance(message, AuthToken):
                return self._ask(document, message, _State.REFRESHING)
            if isinstance(message, CloseDocument):
                self._forget(address, document)
            return [message]
        # A check is under way. Nothing overtakes what has to wait for it.
        if state is _State.ASKED or document.queue or isinstance(message, AuthToken | CloseDocument):
            self._wait(document, message, size)
            return []
        return [message]

    def _advance_new(self, address: str, document: _Document, message: DocumentMessage, size: int) -> list[Message]:
        if isinstance(message, AuthToken):
            document.sent_token = True
            return self._ask(document, message, _State.ASKED)
        if isinstance(message, CloseDocument):
            self._unqueue(document)
            self._forget(address, document)
            return []
        self._wait(document, message, size)
        if self._anonymous and isinstance(message, SyncStep1):
            return self._ask(document, AuthToken(address, "", None), _State.ASKED)
        return []

    def _reopens(self, address: str, message: DocumentMessage) -> bool:
        # Behind a denied token its own step 1 is still on the way; that must not come in as a client without a token.
        anonymously = self._anonymous and not self._shut[address] and isinstance(message, SyncStep1)
        return anonymously or isinstance(message, AuthToken)

    def _ask(self, document: _Document, token: AuthToken, state: _State) -> list[Message]:
        document.state = state
        document.checked_bytes = len(token.token)
        self._checked_bytes += document.checked_bytes
        return [token]

    def _answered(self, document: _Document) -> None:
        self._checked_bytes -= document.checked_bytes
        document.checked_bytes = 0

    def _add(self, address: str) -> _Document:
        if len(self._documents) >= self._limits.documents:
            raise TooManyDocuments(self._limits.documents)
        self._shut.pop(address, None)
        document = self._documents[address] = _Document()
        return document

    def _forget(self, address: str, document: _Document) -> None:
        del self._documents[address]
        self._shut[address] = document.sent_token
        if len(self._shut) > self._limits.documents:
            del self._shut[next(iter(self._shut))]

    def _wait(self, document: _Document, message: DocumentMessage, size: int) -> None:
        self._waiting_bytes += size
        self._waiting_messages += 1
        if self._waiting_bytes > self._limits.waiting_bytes:
            raise TooMuchWaiting(f"{self._limits.waiting_bytes} bytes")
        if self._waiting_messages > self._limits.waiting_messages:
            raise TooMuchWaiting(f"{self._limits.waiting_messages} messages")
        document.queue.append((message, size))

    def _unqueue(self, document: _Document) -> deque[tuple[DocumentMessage, int]]:
        waiting = document.queue
        document.queue = deque()
        self._waiting_messages -= len(waiting)
        self._waiting_bytes -= sum(size for _, size in waiting)
        return waiting

    def _replay(self, address: str, waiting: deque[tuple[DocumentMessage, int]]) -> list[Message]:
        ready: list[Message] = []
        for message, size in waiting:
            ready += self._advance(address, message, size)
        return ready
