from __future__ import annotations

from typing import Any

import pytest

from sync.protocol.frame import binary
from tests.golden.vectors import VECTORS


@pytest.mark.parametrize("vector", VECTORS["frames"])
def test_frames_are_those_of_the_ws_library(vector: dict[str, Any]) -> None:
    payload = bytes([1]) * vector["length"]
    assert binary(payload) == bytes.fromhex(vector["header"]) + payload
