"""The vectors are what the libraries write today, and nobody's edit of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_made_again_the_vectors_are_the_same(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").is_dir():
        pytest.fail("node, or the packages in tests/golden, are not installed: `make test` installs the packages")
    made = tmp_path / "vectors.json"
    done = subprocess.run([node, HERE / "make_vectors.mjs", made], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # Not `==` alone: a difference of half a megabyte would be explained for minutes.
    same = made.read_bytes() == (HERE / "vectors.json").read_bytes()
    assert same, "make_vectors.mjs writes other vectors: run `npm run vectors` in tests/golden and look at the difference"
