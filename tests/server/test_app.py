"""The composition root: settings reach what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.app import close_app, make_app
from server.config import parse
from server.web.context import ROOMS


@pytest.mark.parametrize(("flags", "kept"), [([], None), (["--keep-entries", "500"], 500)])
async def test_a_log_is_kept_whole_unless_told_otherwise(tmp_path: Path, flags: list[str], kept: int | None) -> None:
    app = await make_app(parse(["--open", "--data", str(tmp_path), *flags], {}))
    try:
        assert app[ROOMS].limits.keep_entries == kept
    finally:
        await close_app(app)
