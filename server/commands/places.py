"""Which store a command works on: the options of `ebbtide serve` that say so, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from server.addresses import without_secrets
from server.archive.ports import LogListing
from server.config import VARIABLES, Config, Storage, store_address
from server.options import Option, Settings, Usage, Word, fields_from, options_of
from server.stores.opening import open_listing, open_store
from sync.rooms.ports import Store

_URL, _READS = options_of(Storage)["url"], options_of(Storage)["reads"]

DRIVER_OPTIONS = tuple(each for each in options_of(Storage).values() if each not in (_URL, _READS))
"""Those of `serve` but for where listings are read: one that lags would leave out documents that are there."""

STORE_OPTIONS = (options_of(Config)["data"], _URL, *DRIVER_OPTIONS)


class Location:
    """Where a store is, and how to open it."""

    def __init__(self, storage: Storage, data: Path) -> None:
        self._storage = storage
        self._data = data

    @classmethod
    def from_settings(cls, settings: Settings) -> Location:
        """What `--store` and `--data` say. Raises `ConfigError`."""
        return cls(storage_from(store_address(settings), settings), settings[options_of(Config)["data"].flag])

    def __str__(self) -> str:
        """The folder, or the address without secrets."""
        return without_secrets(self._storage.url) or str(self._data)

    @asynccontextmanager
    async def opened(self, *, must_exist: bool) -> AsyncIterator[Store]:
        """The store, closed on the way out. Raises as `open_store` does."""
        store = await open_store(self._storage, self._data, must_exist=must_exist)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def listed(self) -> AsyncIterator[LogListing]:
        """What the logs of the store, which is open, have; closed on the way out. Raises as `open_listing` does."""
        listing = await open_listing(self._storage, self._data)
        try:
            yield listing
        finally:
            await listing.close()


def storage_from(url: str, settings: Mapping[str, Any]) -> Storage:
    """The store at `url` ("": SQLite), as `DRIVER_OPTIONS` say. Everything is read from the primary."""
    return Storage(**fields_from(Storage, {**settings, _URL.flag: url, _READS.flag: "primary"}))


def usage(
    command: str,
    purpose: str,
    words: tuple[Word, ...],
    flags: tuple[Option, ...] = (),
    options: tuple[Option, ...] = STORE_OPTIONS,
) -> Usage:
    """The usage of a command beside `serve`, in whose environment it may run."""
    return Usage(command, purpose, options, flags, words, VARIABLES)
