"""README and guides, and the code in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import terminal

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDE = ROOT / "examples/guide"
GUIDES = [GUIDE / name for name in re.findall(r"\]\((\w[\w-]*\.md)\)", (GUIDE / "README.md").read_text())]
"""In the order of their table."""


def blocks(language: str, text: Path) -> list[str]:
    """Code of a language in a text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL)


def cases(*texts: Path) -> Iterator[Any]:
    """What a reader types, line by line, and on a terminal of which size."""
    sizes = itertools.cycle(terminal.SIZES)
    for text in texts:
        lines = [line for block in blocks("sh", text) for line in block.splitlines() if line.strip()]
        for number, line in enumerate(lines):
            yield pytest.param(line, next(sizes), id=f"{text.stem}-{number}")
