"""A MongoDB database for each test, and a store in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from server.stores.mongo import MongoStore, open_mongo
from tests.server.stores.mongo_backend import MongoBackend


@pytest.fixture
def backend(url: str) -> Iterator[MongoBackend]:
    backend = MongoBackend(url)
    yield backend
    backend.close()


@pytest.fixture
async def store(backend: MongoBackend) -> AsyncIterator[MongoStore]:
    store = await open_mongo(backend.address)
    yield store
    await store.close()
