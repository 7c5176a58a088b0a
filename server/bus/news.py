"""News of documents as bytes, for a bus that carries them."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from sync.rooms.ports import Draft, NewEntries, NewPresence, News, PresenceWanted

LARGEST = 1 << 20
"""Bytes beyond which entries are only announced: who wants them reads them from the store."""

_ENTRIES, _PRESENCE, _WANTED = 0, 1, 2


class MalformedNews(ValueError):
    """Not news as `encode` writes them."""


def encode(news: News) -> bytes:
    """The bytes of `news`."""
    if isinstance(news, NewEntries):
        if sum(len(draft.update) for draft in news.drafts) > LARGEST:
            news = NewEntries(news.after + len(news.drafts), (), news.lineage)
        content: Any = (_ENTRIES, news.after, news.lineage, [tuple(draft) for draft in news.drafts])
    elif isinstance(news, NewPresence):
        content = (_PRESENCE, news.update)
    else:
        content = (_WANTED,)
    packed: bytes = msgpack.packb(content)
    return packed


def decode(data: bytes) -> News:
    """The news. Raises `MalformedNews`."""
    try:
        kind, *rest = msgpack.unpackb(data)
        if kind == _ENTRIES:
            after, lineage, drafts = rest
            if type(after) is not int or after < 0:
                raise MalformedNews("it continues no log")
            news: News = NewEntries(after, [_draft(*draft) for draft in drafts], str(lineage))
        elif kind == _PRESENCE:
            (update,) = rest
            news = NewPresence(bytes(memoryview(update)))
        elif kind == _WANTED and not rest:
            news = PresenceWanted()
        else:
            raise MalformedNews("it is of no kind that is known")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedNews(str(error)) from error
    return news


def _draft(update: Any, author: Any, device: Any) -> Draft:
    if not isinstance(update, bytes) or not isinstance(author, str) or not isinstance(device, str):
        raise MalformedNews("an entry has the wrong kinds of parts")
    return Draft(update, author, device)
