"""What a client logs of a sync that does not get through: each kind of trouble once, until the server was reached again."""

from __future__ import annotations

import logging

from ebbtide_client.errors import ClientError, TokenRefused, Unreachable, WrongAddress

log = logging.getLogger(__name__)

_ABOUT_THE_SERVER = TokenRefused | Unreachable | WrongAddress
"""These are alike for all documents, and told once for all of them."""


class Troubles:
    """One for all documents of a client."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def failed(self, document: str, error: ClientError) -> None:
        """Warn of a failed attempt, unless an earlier one of this kind was told."""
        kind = ("" if isinstance(error, _ABOUT_THE_SERVER) else document, error.code)
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s of %r: %s", "end of sync" if error.final else "no sync yet", document, error.reason)

    def reached(self, document: str) -> None:
        """The document is in sync: what goes wrong from now on is news."""
        self._told = {kind for kind in self._told if kind[0] not in ("", document)}
