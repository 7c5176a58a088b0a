"""The Dockerfile, read as far as it is used here: stages, and their instructions in order."""

from __future__ import annotations

import json
import re
import shlex
from typing import NamedTuple

from tests.harness.server_process import REPOSITORY


class Stage(NamedTuple):
    """`base` is the image that it starts from, `name` "" for the last one, `steps` are instructions and their text."""

    base: str
    name: str
    steps: list[tuple[str, str]]

    def texts(self, instruction: str) -> list[str]:
        """The text of each such instruction."""
        return [text for each, text in self.steps if each == instruction]

    def pairs(self, instruction: str) -> dict[str, str]:
        """All names and values that its ENV or LABEL instructions set."""
        words = [word for text in self.texts(instruction) for word in shlex.split(text)]
        return dict(word.split("=", 1) for word in words)

    def words(self, instruction: str) -> list[str]:
        """The one such instruction in its exec form, with what comes before the brackets left out."""
        (text,) = self.texts(instruction)
        words: list[str] = json.loads(text[text.index("[") :])
        return words


def stages() -> list[Stage]:
    """The stages, first to last."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    found: list[Stage] = []
    for line in filter(str.strip, lines):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name, []))
        else:
            found[-1].steps.append((instruction, rest.strip()))
    return found
