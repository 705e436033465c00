"""What a wheel puts into site-packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from typer.main import get_command

from mgtool.commands.main import app

ROOT = Path(__file__).parents[1]


def test_a_wheel_installs_only_mgtool(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mgtool"}
    for needed in (
        "mgtool/commands/main.py",
        "mgtool/py.typed",
        "mgtool/detectors/weights/nanodet_g_coco_416.onnx",
        "mgtool/detectors/weights/rtmdet_scenes_256.onnx",
        "mgtool/detectors/vocabularies/coco.txt",
        "mgtool/model/tiny/model.safetensors",
    ):
        assert needed in names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mgtool").rglob("*.py")}
    assert sources <= set(names), "a package is missing in [tool.setuptools]"
    assert any(name.startswith("mgtool/report/templates/") for name in names)
    assert any(name.startswith("mgtool/benchmarks/rubrics/") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


def _checkout(folder: Path, mark: str) -> Path:
    """A copy of what git tracks, whose commands and library say which one they are of."""
    for name in ("mgtool", "commands"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "tiny"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder / name)
    for module in ("mgtool", "commands"):
        with (folder / module / "__init__.py").open("a") as file:
            file.write(f"\nMARK = {mark!r}\n")
    return folder


def test_checkouts_do_not_mix(tmp_path: Path) -> None:
    first, second = _checkout(tmp_path / "first", "first"), _checkout(tmp_path / "second", "second")
    foreign = tmp_path / "path" / "commands"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("MARK = 'foreign'\n")
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    packages = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable"]
    for folder in (first, second, first):  # each install takes the place of the one before
        subprocess.run([*install, str(folder), "--target", str(packages), "--upgrade"], check=True, capture_output=True)
    show = "import mgtool, mgtool.commands; print(mgtool.MARK, mgtool.commands.MARK)"

    def marks(cwd: Path) -> str:
        env = {**os.environ, "PYTHONPATH": str(foreign.parent)}
        env |= {"PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{packages}"}
        return subprocess.run(
            [str(python), "-c", show], cwd=cwd, env=env, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert marks(second) == "second second"
    assert marks(first) == "first first"
    assert marks(tmp_path) == "first first"


def _options() -> set[str]:
    """Every option of every command, and of the scripts of the examples and of the speed table."""
    commands = get_command(app).commands.values()
    listed = {opt for command in commands for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    scripts = (path.read_text() for folder in ("examples", "tests/speed") for path in (ROOT / folder).rglob("*.py"))
    own = {opt for text in scripts for opt in re.findall(r"add_argument\(\s*\"(--[a-z-]+)", text)}
    return listed | own | {"--help", "--version"}


OTHERS = {
    "--no-python", "--nproc-per-node", "--standalone", "--torch-backend", "--install-completion", "--local-dir",
    "--gpus-per-task", "--ntasks",
}  # fmt: skip
"""Options of torchrun, uv, hf, Slurm and Typer that the texts name."""


@pytest.mark.parametrize(
    "text", [path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md"))]
)
def test_every_option_that_a_text_names_exists(text: str) -> None:
    named = set(re.findall(r"(?<![\w/-])--[a-z][a-z-]+", (ROOT / text).read_text()))
    assert named - OTHERS <= _options()
