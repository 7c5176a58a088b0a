"""What the errors of MongoDB's driver mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import ConnectionFailure, PyMongoError, ServerSelectionTimeoutError

from sync.rooms.errors import StoreUnavailable


@contextmanager
def translating() -> Iterator[None]:
    """Let no `PyMongoError` out: raises `StoreUnavailable` in its place."""
    try:
        yield
    except PyMongoError as error:
        raise StoreUnavailable(reason_of(error)) from error


def no_outage(record: logging.LogRecord) -> bool:
    """A filter for what the driver logs: it gives a traceback whenever its upkeep of idle connections finds MongoDB away.

    Whoever waits for MongoDB says that it is.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionFailure))


def reason_of(error: PyMongoError) -> str:
    """What happened, in one line."""
    if isinstance(error, ServerSelectionTimeoutError):
        return f"no MongoDB that can be written to answers: {line_of(error)}"
    if isinstance(error, ConnectionFailure):
        return f"the connection to MongoDB failed: {line_of(error)}"
    return f"MongoDB refused: {line_of(error)}"


def advice_on(error: PyMongoError) -> str:
    """What to do when a MongoDB cannot be reached at the start."""
    line = str(error)
    if 'match selector "Primary()"' in line:
        return "its members answer and none is the primary: run rs.initiate() if that was never done, or start the others"
    if "available for replica set name" in line:
        return "no mongod there is of that set: correct replicaSet= in --store, or start mongod with that --replSet"
    return "see that it runs there, or correct --store"


def line_of(error: Exception) -> str:
    """What the driver says of it, in one line of at most 200 characters."""
    # The drivers append the whole topology, and bulk errors the documents.
    line = str(error).partition("\n")[0].partition(" (configured timeouts")[0]
    for noise in (", Timeout:", ", full error:"):
        line = line.partition(noise)[0]
    return line[:200]
