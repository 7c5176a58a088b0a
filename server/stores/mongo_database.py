"""An open database in MongoDB: its collections, sessions, transactions and change streams, through either driver.

The reasons for the collections are in docs/design/mongo-store.md.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

TRANSACTION_ATTEMPTS = 50
CONFLICT_PAUSE = 0.002
"""Seconds before a transaction that met another one is tried again, growing with every attempt."""

STREAM_WAIT_SECONDS = 1.0
"""How long MongoDB holds back an answer of a change stream that has no news."""

Row = dict[str, Any]
T = TypeVar("T")


class Moment(NamedTuple):
    """A point in the causal order of a deployment: what was done up to it is seen by whoever reads in a session after it."""

    operation_time: Timestamp
    cluster_time: Mapping[str, Any]
    """The deployment's clock as MongoDB signed it: a member that is behind may be shown it."""

    @classmethod
    def of(cls, session: AsyncClientSession) -> Moment:
        """The moment after all that the session has done, which is one operation at least."""
        assert session.operation_time is not None
        assert session.cluster_time is not None
        return cls(session.operation_time, session.cluster_time)


class Mongo(NamedTuple):
    """An open database. All collections write with `w: majority, j: true` and read with `majority` from the primary."""

    client: AsyncMongoClient[Row]
    node: str
    """The name of this end of it, by which its rows are told from those of others."""
    log: AsyncCollection[Row]
    documents: AsyncCollection[Row]
    parts: AsyncCollection[Row]
    uploads: AsyncCollection[Row]
    meta: AsyncCollection[Row]
    revocations: AsyncCollection[Row]
    listing: AsyncCollection[Row]
    """`documents` as listings may read it."""
    durable: WriteConcern
    timeout: float
    feed: str = ""
    """The name of the changes feed, which the database keeps."""

    @asynccontextmanager
    async def session(self, after: Moment | None = None) -> AsyncIterator[AsyncClientSession]:
        """A causally consistent session. It sees all up to `after`, which a member that is behind has to wait for."""
        async with await awaited(self.client.start_session()) as session:
            if after is not None:
                session.advance_cluster_time(after.cluster_time)
                session.advance_operation_time(after.operation_time)
            yield session

    async def transact(self, work: Callable[[AsyncClientSession], Awaitable[T]], attempts: int = TRANSACTION_ATTEMPTS) -> T:
        """`transact_in` a session of its own."""
        async with self.session() as session:
            return await self.transact_in(session, work, attempts)

    async def transact_in(
        self,
        session: AsyncClientSession,
        work: Callable[[AsyncClientSession], Awaitable[T]],
        attempts: int = TRANSACTION_ATTEMPTS,
    ) -> T:
        """Run `work` in a transaction of the session, again when it met another one; returns once it is durable.

        `work` may run several times. Raises `PyMongoError`; then the outcome may be unknown.
        """
        for attempt in range(1, attempts + 1):
            await awaited(session.start_transaction(ReadConcern("snapshot"), self.durable, ReadPreference.PRIMARY))
            try:
                result = await work(session)
                await self._commit(session)
            except PyMongoError as error:
                if session.in_transaction:
                    await session.abort_transaction()
                if not error.has_error_label("TransientTransactionError") or attempt == attempts:
                    raise
            except BaseException:
                if session.in_transaction:
                    await session.abort_transaction()
                raise
            else:
                return result
            await asyncio.sleep(CONFLICT_PAUSE * attempt)
        raise AssertionError("unreachable")

    async def _commit(self, session: AsyncClientSession) -> None:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label("UnknownTransactionCommitResult"):
                raise
            # Asking again is idempotent, and finds out.
            await session.commit_transaction()

    async def close(self) -> None:
        """Close the connections."""
        await awaited(self.client.close())


async def awaited(result: Any) -> Any:
    """What Motor gives awaitable, PyMongo gives at once, or the other way round."""
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def watching(
    collection: AsyncCollection[Row], pipeline: list[Row], resume_after: Row | None = None, full_document: str | None = None
) -> AsyncIterator[Any]:
    """A change stream, open, to be read with `try_next`. Raises `PyMongoError`."""
    stream = await awaited(
        collection.watch(
            pipeline,
            full_document=full_document,
            resume_after=resume_after,
            max_await_time_ms=round(1000 * STREAM_WAIT_SECONDS),
        )
    )
    try:
        # Motor opens it here, PyMongo did so above.
        await stream.__aenter__()
        yield stream
    finally:
        with suppress(PyMongoError):
            await stream.close()
