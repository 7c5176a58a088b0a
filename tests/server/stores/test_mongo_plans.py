"""Every query that the server makes on MongoDB goes by an index: all of its calls are made here, and their plans looked at.

But for one: what `verify` lists is to have records that an index might not.
"""

from __future__ import annotations

import ast
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId

from server.access import mongo_list
from server.access.mongo_list import open_mongo_list
from server.access.revocations import Kind, Revocation, Revocations
from server.bus.mongo import MongoBus
from server.stores import (
    mongo,
    mongo_appender,
    mongo_ends,
    mongo_feed,
    mongo_floors,
    mongo_listing,
    mongo_reader,
    mongo_snapshots,
)
from server.stores.mongo import MongoStore
from server.stores.mongo_client import MongoOptions, connect
from server.stores.mongo_database import Mongo
from server.stores.mongo_demands import COLLECTIONS
from server.stores.mongo_listing import MongoListing
from sync.rooms.ports import Adoption, Append, Appended, Conflict, Draft
from tests.contracts.store.logs import aged, fill, numbered
from tests.server.stores.mongo_backend import MongoBackend

BY_INDEX = {"IXSCAN", "IDHACK", "CLUSTERED_IXSCAN", "EOF"}
"""What a plan's summary begins with when it looks at an index, or sees that there is nothing to look for."""

Call = tuple[str, int]
"""The file and the line of a call of a collection's method."""


def calls_in_source() -> set[Call]:
    """All of the server's calls on a collection but those at start, which are made anew with every `connect`."""
    calls: set[Call] = set()
    stores = (mongo, mongo_appender, mongo_ends, mongo_feed, mongo_floors, mongo_listing, mongo_reader, mongo_snapshots)
    for module in (*stores, mongo_list, sys.modules[MongoBus.__module__]):
        path = str(module.__file__)
        for node in ast.walk(ast.parse(Path(path).read_text())):
            match node:
                case ast.Attribute(value=ast.Attribute(attr=collection, value=ast.Attribute(attr="_mongo"))):
                    if collection in {*COLLECTIONS, "listing"}:
                        calls.add((path, node.lineno))
    return calls


class Noting:
    """A collection, and a note of every line that asks it for a method."""

    def __init__(self, collection: Any, calls: set[Call]) -> None:
        self._collection = collection
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        frame = sys._getframe(1)
        self._calls.add((frame.f_code.co_filename, frame.f_lineno))
        return getattr(self._collection, name)


async def noting(address: str, calls: set[Call]) -> Mongo:
    opened = await connect(address, MongoOptions())
    collections: dict[str, Any] = {name: Noting(getattr(opened, name), calls) for name in (*COLLECTIONS, "listing")}
    return opened._replace(**collections)


async def test_every_query_goes_by_an_index(backend: MongoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: set[Call] = set()
    database = backend.database
    # By default it holds a megabyte, and forgets what was first.
    database.create_collection("system.profile", capped=True, size=64 << 20)
    database.command("profile", 2)
    one, two = MongoStore(await noting(backend.address, calls)), MongoStore(await noting(backend.address, calls))
    # Enough that a query that looks at all of them shows.
    many = [f"d{number}" for number in range(200)]
    assert set(map(type, await one.append([Append(name, 0, numbered(1, 2), "L") for name in many]))) == {Appended}
    # Known ends, looked-up ends, taken keys, and an append of several blocks.
    await fill(one, "a", 3)
    assert await two.append([Append("a", 3, [Draft(b"x")], "L")]) == [Appended(4)]
    assert await one.append([Append("a", 3, [Draft(b"y")], "L")]) == [Conflict(4, "L")]
    assert await one.append([Append("large", 0, [Draft(bytes(8 << 20))] * 2, "L")]) == [Appended(2)]
    # Feed and heads: at first, later, and for what is new.
    await one.heads(["a", "b"])
    await fill(one, "b", 1)
    await one.heads(["a", "b", "z"])
    await two.changes(0, 10)
    # Snapshots, and what nobody finished.
    database.uploads.insert_one({"_id": (left := ObjectId())})
    database.parts.insert_one({"_id": {"u": left, "p": 0}, "b": b"x"})
    for seq in (2, 3):
        await one.snapshot("a", seq, b"state")
        one._snapshots._first_seen = dict.fromkeys(one._snapshots._first_seen, -1e6)
    # An intent of a dead node.
    database.log.insert_one({"_id": {"d": "", "s": "dead"}, "of": [["b", 1]]})
    await one.heads(["a"])
    one._feed._first_seen = dict.fromkeys(one._feed._first_seen, -1e6)
    await one.heads(["a"])
    # Compaction, and an append that has to be taken back.
    await fill(two, "slept", 3)
    await two.append([Append("slept", 3, numbered(4, 6), "L")])
    await one.append([Append("slept", 6, numbered(7, 7), "L")])
    await one.snapshot("slept", 7, b"state")
    assert await one.compact("slept", 7) == 7
    assert await two.append([Append("slept", 6, [Draft(b"late")], "L")]) == [Conflict(7, "L")]
    # Adopted logs, one begun behind a number, and one that somebody else had begun.
    assert await one.adopt([Adoption("behind", 7, [], "L"), Adoption("whole", 0, aged(1, 3), "L")]) == [
        Appended(7),
        Appended(3),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(one._floors, "_has_block", afterwards)
        assert await one.adopt([Adoption("theirs", 7, [], "L")]) == [Conflict(0, "")]
    await one.load("a")
    await one.read("a", 2, 10)
    await one.read("b", 0, 1)
    await one.check()
    # What `verify` lists.
    listed = [logged async for logged in MongoListing(one._mongo).documents_in_log()]
    assert {logged.document for logged in listed} > {"a", "b", "large", "slept", "behind"}
    # The change stream.
    bus = MongoBus(two._mongo)
    heard = asyncio.Event()
    bus.subscribe("b", lambda document, news: heard.set())
    bus.start()
    async with asyncio.timeout(30):
        while not heard.is_set():
            await one.append([Append("b", (await one.heads(["b"]))["b"], [Draft(b"x")], "L")])
    await bus.close()
    # Revocations: some to read, some to delete, and a new one.
    now = time.time()
    ages = {"new": 0, "old": 7200}
    database.revocations.insert_many([{"_id": f"s{age}{n}", "at": now - ages[age]} for age in ages for n in range(200)])
    revocations = Revocations(1, time.time, lambda call: None)
    kept = await open_mongo_list(two._mongo, revocations)
    await kept.spread(revocations.add(Revocation(Kind.TOKEN, "7", now)))
    await kept.close()
    assert len(revocations) == 201
    await one.close()
    await two.close()
    database.command("profile", 0)
    missed = {f"{Path(path).name}:{line}" for path, line in calls_in_source() - calls}
    assert not missed, "these calls were not made"
    rows = list(database["system.profile"].find({"appName": "ebbtide"}))
    queries = [row for row in rows if asks(row)]
    assert {row["ns"].partition(".")[2] for row in queries} >= set(COLLECTIONS)
    whole = [row for row in queries if reads_whole(row)]
    assert [row["planSummary"] for row in whole] == ["COLLSCAN"]
    for row in queries:
        if row in whole:
            continue
        summary = row.get("planSummary", "none")
        assert summary.partition(" ")[0] in BY_INDEX, (summary, row["command"])
        found = row.get("nreturned", 0) + row.get("nMatched", 0) + row.get("ndeleted", 0)
        # Some are looked at for a field, or because they were there a moment ago; never all of hundreds.
        assert row.get("docsExamined", 0) <= found + 10, row["command"]
        # Of an index too: a key that is passed over for each one that is found, at most.
        assert row.get("keysExamined", 0) <= 2 * found + 10, row["command"]


async def afterwards(document: str, session: object) -> bool:
    """For `Floors._has_block`: somebody's block comes in between."""
    return session is None


def reads_whole(row: dict[str, Any]) -> bool:
    """Whether it is what `verify` asks: something of all records there are."""
    command = row["command"]
    wanted = {"filter": {}, "projection": {"floor": 1, "snapshot.seq": 1}}
    return bool(command.get("find") == "documents" and command.items() >= wanted.items())


def asks(row: dict[str, Any]) -> bool:
    """Whether a profiled operation looks for something, and not in the oplog as a change stream does."""
    command = row["command"]
    stream = "$changeStream" in str(command.get("pipeline", "")) or "$changeStream" in str(row.get("originatingCommand", ""))
    return not stream and (row["op"] in ("query", "update", "remove") or "findAndModify" in command or "aggregate" in command)
