"""Guides and the notebook are true: what they show runs as it stands, after the commands of the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import documents
import pytest
import reader
import terminal
import tiny_transformers
from documents import GUIDES, README
from tiny_models import parts_in

import mgtool

PHOTOS = documents.ROOT / "examples/photos"
CASES = list(documents.cases(*GUIDES))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader has who has typed the commands of the README."""
    folder = tmp_path_factory.mktemp("reader")
    reader.furnish(folder)
    tiny_transformers.owl("owlv2", folder / "parts/owlv2-large-patch14-ensemble")
    mgtool.import_model(parts_in(folder / "parts", template="vicuna"), folder / "out/model")
    mgtool.detect(PHOTOS / "images", folder / "out/boxes", mgtool.DetectOptions(workers=0))
    source = mgtool.Source(PHOTOS / "conversations.json", images=PHOTOS / "images", boxes=folder / "out/boxes")
    mgtool.pack([source], folder / "out/tars", mgtool.PackOptions(workers=1))
    return folder


@pytest.mark.parametrize(("command", "size"), CASES)
def test_an_example_runs(command: str, size: tuple[int, int], workplace: Path) -> None:
    terminal.check_typed(command, size=size, cwd=workplace, is_fresh=False)


def test_the_python_example_runs(workplace: Path) -> None:
    [example] = [block for text in (README, *GUIDES) for block in documents.blocks("python", text)]
    subprocess.run(
        [sys.executable, "-c", example], cwd=workplace, env=terminal.environment(), check=True, capture_output=True
    )


def test_the_notebook_runs(workplace: Path) -> None:
    text = documents.ROOT / "examples/notebook.md"
    for command in documents.blocks("sh", text):
        subprocess.run(["bash", "-c", command], cwd=workplace, env=terminal.environment(), check=True)
    program = "".join(cell + _shown(cell) for cell in documents.blocks("python", text))
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
