"""The README is true: its shell examples run, in order, on a terminal, as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path

import documents
import pytest
import reader
import terminal
from documents import GUIDE, GUIDES, README

TEXTS = [README, *GUIDES]
CASES = list(documents.cases(README))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader of the README has."""
    folder = tmp_path_factory.mktemp("reader")
    reader.furnish(folder)
    return folder


@pytest.mark.parametrize(("command", "size"), CASES)
def test_an_example_runs(command: str, size: tuple[int, int], workplace: Path) -> None:
    terminal.check_typed(command, size=size, cwd=workplace)


def test_the_examples_made_what_they_say(workplace: Path) -> None:
    assert len(CASES) >= 9
    assert (workplace / "out/scores/report.html").stat().st_size > 10_000


def test_every_script_that_the_readme_names_exists() -> None:
    for text in TEXTS:
        for name in re.findall(r"`(tests/speed/\w+\.py)`", text.read_text()):
            assert (documents.ROOT / name).is_file()


def test_the_readme_is_short_and_every_link_leads_somewhere() -> None:
    assert len(README.read_text().splitlines()) < 180
    assert {*GUIDE.glob("*.md")} == {GUIDE / "README.md", *GUIDES}
    for text in (*TEXTS, GUIDE / "README.md"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text.read_text()):
            assert (text.parent / link).exists(), f"{text}: {link}"
