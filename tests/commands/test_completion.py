"""TAB in a real bash offers what an option takes, and files elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = r"""
cd "$1"; source "$2"
COMP_WORDS=("${@:3}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
_mgtool_completion "$PROGRAM"
if [ ${#COMPREPLY[@]} = 0 ]; then echo "files:"; compgen -f -- "${COMP_WORDS[COMP_CWORD]}"; fi
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory):
    """What bash offers for the last of some words."""
    folder = tmp_path_factory.mktemp("bash")
    program = folder / "mgtool"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mgtool "$@"\n')
    program.chmod(0o755)
    (folder / "here.jsonl").touch()
    asked = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [program, "--show-completion", "bash"], env=asked, capture_output=True, text=True, check=True
    ).stdout
    (folder / "completion.sh").write_text(shown)

    def offered(*words: str) -> list[str]:
        command = ["bash", "--norc", "-c", SCRIPT, "bash", folder, folder / "completion.sh", "mgtool", *words]
        env = {**os.environ, "PROGRAM": str(program)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()

    return offered


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["de"], ["detect"]),
        (["eval", "--benchmark", "coco"], ["coco-caption", "coco-detection"]),
        (["detect", "x", "--detector", "na"], ["nanodet"]),
        (["detect", "x", "--format", "co"], ["coco"]),
        (["detect", "x", "--preset", ""], ["mg-llava"]),
        (["detect", "x", "--keep", "cat,zeb"], ["cat,zebra"]),
        (["infer", "x", "--task", "capt"], ["caption"]),
        (["infer", "x", "--dtype", "bf"], ["bfloat16"]),
        (["pack", "x", "--missing-boxes", "sk"], ["skip"]),
        (["import", "--template", "vic"], ["vicuna"]),
        (["import", "--preset", "mg-llava-v"], ["mg-llava-vicuna-7b", "mg-llava-vicuna-13b"]),
        (["infer", "her"], ["files:", "here.jsonl"]),
        (["detect", "--images", "her"], ["files:", "here.jsonl"]),
    ],
    ids=" ".join,
)
def test_bash_offers(words: list[str], offers: list[str], tab) -> None:
    assert tab(*words) == offers


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_the_same(shell: str) -> None:
    line = "mgtool eval --benchmark coco-c"
    variables = {"_MGTOOL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    variables |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    command = [sys.executable, "-m", "mgtool"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert "coco-caption" in done.stdout
