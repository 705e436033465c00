"""README and guides are true: their shell examples run, in order, on a terminal, as a reader would type them."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import reader
import terminal
import tiny_transformers

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "examples/guide"
TABLE = re.findall(r"\]\((\w[\w-]*\.md)\)", (GUIDE / "README.md").read_text())
"""The guides, in the order of their table."""
TEXTS = [ROOT / "README.md", *(GUIDE / name for name in TABLE)]


def _blocks(language: str, text: str | None = None) -> list[str]:
    """Code of a language in a text, the README if none is given."""
    text = (ROOT / "README.md").read_text() if text is None else text
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader of the README has."""
    folder = tmp_path_factory.mktemp("reader")
    reader.furnish(folder)
    tiny_transformers.owl("owlv2", folder / "parts/owlv2-large-patch14-ensemble")
    return folder


@pytest.mark.timeout(900)
def test_every_example_runs(workplace: Path) -> None:
    blocks = [block for text in TEXTS for block in _blocks("sh", text.read_text())]
    commands = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(commands) >= 9
    for command, size in zip(commands, itertools.cycle(((80, 24), (120, 40)))):
        code, screen = terminal.run(["bash", "-o", "pipefail", "-c", command], size=size, cwd=workplace)
        # The processes of a pipe draw on the same line.
        terminal.check(command, code, screen, columns=None if "|" in command else size[0])
    assert (workplace / "out/scores/report.html").stat().st_size > 10_000


def test_the_python_example_runs(workplace: Path) -> None:
    [example] = [block for text in TEXTS for block in _blocks("python", text.read_text())]
    if not (workplace / "out/model").exists():
        pytest.fail("the shell examples did not make the model")
    subprocess.run(
        [sys.executable, "-c", example], cwd=workplace, env=terminal.environment(), check=True, capture_output=True
    )


def test_every_script_that_the_readme_names_exists() -> None:
    for text in TEXTS:
        for name in re.findall(r"`(tests/speed/\w+\.py)`", text.read_text()):
            assert (ROOT / name).is_file()


def test_the_readme_is_short_and_every_link_leads_somewhere() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 180
    assert {*GUIDE.glob("*.md")} == {GUIDE / "README.md", *(GUIDE / name for name in TABLE)}
    for text in (*TEXTS, GUIDE / "README.md"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text.read_text()):
            assert (text.parent / link).exists(), f"{text}: {link}"


def test_the_notebook_runs(workplace: Path) -> None:
    text = (ROOT / "examples/notebook.md").read_text()
    for command in _blocks("sh", text):
        subprocess.run(["bash", "-c", command], cwd=workplace, env=terminal.environment(), check=True)
    program = "".join(cell + _shown(cell) for cell in _blocks("python", text))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=workplace,
        env=terminal.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "a function printed"


def _shown(cell: str) -> str:
    """What a notebook does with a cell whose last line is a name: it shows it."""
    last = cell.strip().splitlines()[-1]
    return f"assert '<table' in {last}._repr_html_()\n" if last.isidentifier() else ""
