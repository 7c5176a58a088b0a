"""What every adapter of a port has to keep: base classes that a backend's tests derive from."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.contracts.store", "tests.contracts.bus")
