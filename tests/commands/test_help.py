"""What a person reads before the first run: short lines in groups, with commands to copy."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mgtool.commands import help_page, help_texts
from mgtool.commands.main import app

ROOT = Path(__file__).parents[2]
NAMES = tuple(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_page_fits_the_terminal(name: str, columns: int, mgtool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, page, said = mgtool(name, "-h")
    assert (code, said) == (0, "")
    assert not re.search(r"<bool>|<int|<float|<list|\[x>=", page)
    head, _, examples = page.partition("Examples\n")
    assert all(len(line) <= columns for line in head.splitlines())
    lines = examples.replace(" \\\n   ", "").splitlines()
    assert [" ".join(shlex.split(line)) for line in lines] == list(help_texts.EXAMPLES[name])


@pytest.mark.parametrize("name", NAMES)
def test_options_stand_in_groups_and_their_words_are_listed(name: str, mgtool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    _, page, _ = mgtool(name, "--help")
    titles = [line for line in page.splitlines() if re.fullmatch(r"[A-Z][A-Za-z ]+", line)]
    known = [title for title in ("Inputs", "Output", "Model", "Speed", "Many machines", "More") if title in titles]
    assert [title for title in titles if title in known] == known
    command = typer.main.get_command(app).commands[name]
    text = " ".join(page.split())
    for param in command.params:
        if param.param_type_name == "option":
            assert re.search(rf"{max(param.opts, key=len)}\b", page)
            assert all(choice in text for choice in help_page._choices(param))


def test_commands_are_told_in_the_order_of_work(mgtool) -> None:
    assert NAMES[:6] == ("import", "detect", "pack", "infer", "eval", "train")
    alone, asked = mgtool(), mgtool("-h")
    assert alone == asked
    places = [asked[1].index(f"\n  {name} ") for name in NAMES]
    assert places == sorted(places)


def test_every_example_stands_where_its_run_is_tested() -> None:
    told = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "examples/guide").glob("*.md")))
    told = re.sub(r" \\\n +", " ", told)
    missing = [line for lines in help_texts.EXAMPLES.values() for line in lines if line not in told]
    assert missing == []


def test_python_runs_the_package() -> None:
    done = subprocess.run([sys.executable, "-m", "mgtool", "-h"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: mgtool COMMAND")
