"""The bus within a process."""

from __future__ import annotations

import pytest

from server.bus.local import LocalBus
from sync.rooms.ports import Bus
from tests.contracts.bus import BusContract, Connect


class TestLocalBus(BusContract):
    @pytest.fixture
    def connect(self) -> Connect:
        hub = LocalBus()

        async def connect() -> Bus:
            return hub.connect()

        return connect
