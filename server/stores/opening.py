"""Which store a command works on. Beside `server/app.py`, the only file that names concrete stores."""

from __future__ import annotations

from pathlib import Path

from server.archive.ports import LogListing
from server.archive.segments import is_backup
from server.config import Storage
from server.stores.errors import StoreUnusable
from server.stores.mongo import MongoStore
from server.stores.mongo_client import MongoOptions, connect
from server.stores.mongo_database import Mongo
from server.stores.mongo_listing import MongoListing
from server.stores.sqlite import open_sqlite
from server.stores.sqlite_listing import open_sqlite_listing
from sync.rooms.ports import Store

FILE = "ebbtide.sqlite"
"""The database in the data folder."""


async def open_store(storage: Storage, data: Path, *, must_exist: bool = False) -> Store:
    """The store that `storage` and the data folder name; `data` may also be the database file itself.

    Raises `StoreUnusable` or `StoreUnavailable` when it cannot be opened, `StoreCorrupted` for a damaged file, and `OSError`
    when the folder cannot be made. With `must_exist`, a store that is missing is not made: that is `StoreUnusable`. Nor is one
    made in a folder that holds a backup, which would be none any more.
    """
    if storage.url:
        return MongoStore(await connect_mongo(storage, must_exist=must_exist))
    path = data if data.suffix == ".sqlite" else data / FILE
    if not must_exist:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_backup(path.parent) and not path.exists():
            raise StoreUnusable(path.parent, "holds a backup; name another folder, into which `ebbtide restore` puts it")
    elif not path.is_file():
        raise StoreUnusable(path, "there is no such database; name its folder with --data, or a MongoDB with --store")
    return await open_sqlite(path)


async def open_listing(storage: Storage, data: Path) -> LogListing:
    """The listing of the logs of a store that `open_store` has opened. Raises as that does."""
    if storage.url:
        return MongoListing(await connect_mongo(storage))
    return await open_sqlite_listing(data if data.suffix == ".sqlite" else data / FILE)


async def connect_mongo(storage: Storage, *, must_exist: bool = False) -> Mongo:
    """The MongoDB that `storage` names. Raises `StoreUnusable` or `StoreUnavailable` as `connect` does."""
    options = MongoOptions(storage.driver, storage.pool_most, storage.pool_least, storage.timeout, storage.reads)
    return await connect(storage.url, options, must_exist=must_exist)
