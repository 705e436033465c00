"""The README is true: its shell examples run, in order, as a reader would type them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader of the README has."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "examples").symlink_to(ROOT / "examples")
    parts = folder / "parts"
    parts.mkdir()
    for name in ("mg_llava.pth", "llm", "clip", "convnext"):
        (parts / name).symlink_to(ROOT / "tests/conformance/mg_llava" / name)
    for name in ("ram_plus_tiny.pth", "config.json", "ram_tag_list.txt", "ram_tag_list_threshold.txt"):
        published = name.replace("ram_plus_tiny", "ram_plus_swin_large_14m")
        (parts / published).symlink_to(ROOT / "tests/conformance/ram_plus" / name)
    _tiny_transformers().owl("owlv2", parts / "owlv2-large-patch14-ensemble")
    return folder


def _tiny_transformers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_transformers", ROOT / "tests/detect/tiny_transformers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}


@pytest.mark.timeout(900)
def test_every_example_runs(workplace: Path) -> None:
    commands = [line for block in _blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(commands) >= 9
    for command in commands:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=workplace,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (workplace / "out/scores/report.html").stat().st_size > 10_000


def test_the_python_example_runs(workplace: Path) -> None:
    [example] = _blocks("python")
    if not (workplace / "out/model").exists():
        pytest.fail("the shell examples did not make the model")
    subprocess.run([sys.executable, "-c", example], cwd=workplace, env=_environment(), check=True, capture_output=True)


def test_every_script_that_the_readme_names_exists() -> None:
    for name in re.findall(r"`(tests/benchmarks/\w+\.py)`", (ROOT / "README.md").read_text()):
        assert (ROOT / name).is_file()
