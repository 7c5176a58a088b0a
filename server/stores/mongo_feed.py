"""The order of changes in MongoDB: intents, the numbers that are given afterwards, and the questions they answer.

The reasons are in docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from bson import MaxKey, MinKey
from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from server.stores.mongo_blocks import INTENTS, check_kinds, key_range
from server.stores.mongo_database import Moment, Mongo, Row
from sync.rooms.errors import StoreCorrupted
from sync.rooms.ports import Change, Changes

log = logging.getLogger(__name__)

NUMBER_AFTER = 0.2
"""Seconds after an append in which further ones gather before they are numbered."""

ABANDONED_AFTER = 3600.0
"""Seconds for which an intent of another node is watched before it counts as left behind by a dead one."""

NUMBERING_ATTEMPTS = 10
BLOCKED_SECONDS = 1.0
"""How long numbering rests when another node's transaction stays in its way: one that died in it holds the clock for up to
a minute."""

CHUNK = 1000
_LARGEST = 2**63 - 1
_NUMBER: Row = {"$type": ["int", "long"]}
_BLOCK: Row = {"c": int, "l": str}
"""What numbering has to know of a block."""


class Feed:
    """Numbers appends. Methods raise `PyMongoError`, and `changes` `StoreCorrupted` for a record without a head; the store
    translates. A document of which a block or the record is damaged is left out elsewhere: it stops nobody else.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._count = 0
        self._finished: list[str] = []
        # The latest of the finished intents' moments.
        self._written: Moment | None = None
        self._first_seen: dict[str, float] = {}
        self._numbering = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._tidying: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._blocked_until = 0.0
        self._heads: dict[str, int] = {}
        self._seen: int | None = None
        # Of whose damage the log has been told.
        self._damaged: set[str] = set()

    def new_intent(self) -> str:
        """The key of the intent to be written before the blocks of a batch."""
        self._count += 1
        return f"{self._mongo.node}{self._count:012x}"

    def finished(self, intent: str, written: Moment) -> None:
        """The outcome of the intent's batch is certain: what there is of it can be numbered, and the intent removed.

        Whoever reads after `written` sees both. Of appends that were under way at once, the later one may finish first.
        """
        self._finished.append(intent)
        if self._written is None or written.operation_time > self._written.operation_time:
            self._written = written
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def number(self) -> dict[str, int]:
        """Give a number to every document that has entries which the feed does not know yet.

        What was `finished` before the call is among them also after a failover. Returns the heads of those that could not be
        numbered, since another node's transaction is in the way.
        """
        left: dict[str, int] = {}
        async with self._numbering, self._mongo.session(self._written) as session:
            found = self._mongo.log.find({"_id": key_range(INTENTS, MinKey(), MaxKey())}, session=session)
            intents = await found.sort("_id", 1).to_list(None)
            for start in range(0, len(intents), CHUNK):
                left |= await self._number(intents[start : start + CHUNK], session)
            if not left:
                await self._remove_abandoned({intent["_id"]["s"] for intent in intents})
        return left

    async def heads(self, documents: Sequence[str]) -> dict[str, int]:
        """`Store.heads`. Remembers the answer and, next time, asks for what has been appended since."""
        async with self._asking:
            left = await self.number()
            find = self._mongo.documents.find
            if self._seen is None:
                clock = await self._mongo.meta.find_one({"_id": "clock"})
                self._seen = clock["number"] if clock else 0
            async for row in find({"number": {"$gt": self._seen}}, {"head": 1, "number": 1}).sort("number", 1):
                if row["_id"] in self._heads and self._is_sound(row["_id"], row, {"head": int}):
                    self._heads[row["_id"]] = row["head"]
                self._seen = max(self._seen, row["number"])
            unknown = [document for document in documents if document not in self._heads]
            self._heads.update(dict.fromkeys(unknown, 0))
            for start in range(0, len(unknown), CHUNK):
                wanted = {"_id": {"$in": unknown[start : start + CHUNK]}, "head": _NUMBER}
                self._heads.update({row["_id"]: row["head"] async for row in find(wanted, {"head": 1})})
            # What is no longer asked for is forgotten.
            self._heads = {document: self._heads[document] for document in documents}
            # The feed gives these later, and `_heads` with it.
            heads = {document: max(head, left.get(document, 0)) for document, head in self._heads.items()}
            return {document: head for document, head in heads.items() if head}

    async def changes(self, since: int, limit: int) -> Changes:
        """`Store.changes`. The cursor is the number that the feed gave last. What could not be numbered comes later."""
        await self.number()
        above = {"number": {"$gt": max(0, min(since, _LARGEST))}}
        wanted = min(limit, 2**31 - 2)
        found = self._mongo.listing.find(above, {"head": 1, "number": 1}).sort("number", 1).limit(wanted + 1)
        rows = await found.to_list(None)
        page = rows[:wanted]
        changes = [Change(row["_id"], _head(row)) for row in page]
        return Changes(changes, page[-1]["number"] if page else since, len(rows) > wanted, self._mongo.feed)

    async def close(self) -> None:
        """Number what this node appended, so that it leaves no intent behind unless MongoDB refuses that now too."""
        self._closing.set()
        if self._tidying is not None:
            await self._tidying
            # An attempt that failed has left them.
            await self._tidy()

    async def _tidy(self) -> None:
        while self._finished:
            with suppress(TimeoutError):
                async with asyncio.timeout(NUMBER_AFTER):
                    await self._closing.wait()
            finished = self._finished[:]
            try:
                if await self.number():
                    return
                keys = [{"d": INTENTS, "s": key} for key in finished]
                await self._mongo.log.delete_many({"_id": {"$in": keys}})
            except PyMongoError as error:
                # `changes` and `heads` number what they find, and the next append brings us back here.
                log.warning("appends not numbered yet", extra={"reason": type(error).__name__})
                return
            del self._finished[: len(finished)]

    async def _number(self, intents: Sequence[Row], session: AsyncClientSession) -> dict[str, int]:
        """Give numbers to what is there of these intents' blocks, in the order of the intents. What `number` returns.

        The session is the one that the intents were read in: what it finds of the blocks is no older.
        """
        # By document the numbers that its blocks may begin at, each with its place among all.
        firsts: dict[str, dict[int, int]] = {}
        for place, (document, first) in enumerate(pair for intent in intents for pair in intent["of"]):
            firsts.setdefault(document, {})[first] = place
        # The latest block says where a log ends. It is there, unless its append was refused or goes on.
        ends, damaged = await self._ends([(document, max(places)) for document, places in firsts.items()], session)
        other = firsts.keys() - ends.keys() - damaged
        ends |= (await self._ends([(document, first) for document in other for first in firsts[document]], session))[0]
        # The latest commit decides the place.
        ordered = sorted(ends, key=lambda document: firsts[document][ends[document][0]])
        heads = {document: ends[document][1:] for document in ordered}
        unnumbered = await self._unnumbered(heads, session) if heads else []
        if not unnumbered:
            return {}
        if time.monotonic() >= self._blocked_until:
            try:
                await self._mongo.transact(partial(self.give_numbers, heads), NUMBERING_ATTEMPTS)
            except PyMongoError as error:
                if not error.has_error_label("TransientTransactionError"):
                    raise
                self._blocked_until = time.monotonic() + BLOCKED_SECONDS
                log.warning("another node's transaction keeps appends from being numbered")
            else:
                return {}
        return {name: heads[name][0] for name in unnumbered}

    async def _ends(
        self, blocks: Sequence[tuple[str, int]], session: AsyncClientSession
    ) -> tuple[dict[str, tuple[int, int, str]], set[str]]:
        """By document the last of these blocks that is there: the numbers that it begins and ends at, and the lineage.

        And the documents that have a damaged one among them, which are left out: nobody can say where their logs end.
        """
        ends: dict[str, tuple[int, int, str]] = {}
        damaged: set[str] = set()
        for start in range(0, len(blocks), CHUNK):
            keys = [{"d": document, "s": first} for document, first in blocks[start : start + CHUNK]]
            async for row in self._mongo.log.find({"_id": {"$in": keys}}, {"c": 1, "l": 1}, session=session):
                document, first = row["_id"]["d"], row["_id"]["s"]
                if not self._is_sound(document, row, _BLOCK):
                    damaged.add(document)
                    continue
                ends[document] = max(ends.get(document, (0, 0, "")), (first, first + row["c"] - 1, row["l"]))
        return {document: end for document, end in ends.items() if document not in damaged}, damaged

    def _is_sound(self, document: str, row: Row, kinds: Row) -> bool:
        """Whether the row of the document is of these kinds (see `check_kinds`). The first that is not is logged."""
        try:
            check_kinds(document, row, kinds)
        except StoreCorrupted as error:
            if document not in self._damaged:
                self._damaged.add(document)
                log.error("document damaged in the store, others go on", extra={"document": document, "reason": error.reason})
            return False
        return True

    async def _unnumbered(self, heads: dict[str, tuple[int, str]], session: AsyncClientSession) -> list[str]:
        """Those of the documents whose record has a lower head, in order."""
        names = list(heads)
        known: dict[str, int] = {}
        for start in range(0, len(names), CHUNK):
            wanted = {"_id": {"$in": names[start : start + CHUNK]}, "head": _NUMBER}
            found = self._mongo.documents.find(wanted, {"head": 1}, session=session)
            known.update({row["_id"]: row["head"] async for row in found})
        return [name for name in names if known.get(name, 0) < heads[name][0]]

    async def give_numbers(self, heads: dict[str, tuple[int, str]], session: AsyncClientSession) -> None:
        """In a transaction: set heads and lineages of those documents whose recorded head is lower, and number them."""
        # The clock first: from here on no other node numbers, and what it numbered before is seen.
        clock = await self._mongo.meta.find_one_and_update(
            {"_id": "clock"},
            {"$inc": {"number": len(heads)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        assert clock is not None
        first = clock["number"] - len(heads) + 1
        updates = [
            UpdateOne(
                {"_id": name}, {"$set": {"head": heads[name][0], "lineage": heads[name][1], "number": number}}, upsert=True
            )
            for number, name in enumerate(await self._unnumbered(heads, session), first)
        ]
        if updates:
            await self._mongo.documents.bulk_write(updates, ordered=False, session=session)

    async def _remove_abandoned(self, present: set[str]) -> None:
        """Remove intents that a node left behind: their blocks are numbered, or will never come."""
        now = time.monotonic()
        own = {key for key in present if key.startswith(self._mongo.node)}
        self._first_seen = {key: self._first_seen.get(key, now) for key in present - own}
        abandoned = [key for key, seen in self._first_seen.items() if now - seen > ABANDONED_AFTER]
        if abandoned:
            await self._mongo.log.delete_many({"_id": {"$in": [{"d": INTENTS, "s": key} for key in abandoned]}})


def _head(row: Row) -> int:
    """Of a document's record. Raises `StoreCorrupted`."""
    check_kinds(row["_id"], row, {"head": int})
    return int(row["head"])
