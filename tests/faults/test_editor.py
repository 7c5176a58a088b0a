from __future__ import annotations

from typing import Any

import pycrdt
import pytest

from tests.faults.editor import Editor, edits_of


def test_edits_are_numbered_and_found_in_their_order() -> None:
    ada = Editor("ada", "one", [])
    for _ in range(2):
        ada.write()
    assert ada.text == "<ada.0><ada.1>"
    assert ada.contents() == ["ada.0", "ada.1"]


def test_a_torn_edit_is_found() -> None:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc["text"] = pycrdt.Text("<ada.0><ada")
    with pytest.raises(ValueError, match="beside whole edits"):
        edits_of(doc)
