"""`make gpu` on a CPU, so that nothing is first seen on the card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gpu(tmp_path):
    """Run the command with an interpreter; gives its parts and what it said."""

    def run(*options: str, python: str = sys.executable):
        given = " ".join(["--out", str(tmp_path / "results"), *options])
        command = ["make", "-s", "gpu", f"PYTHON={python}", "DEVICE=cpu", "QUICK=1", f"OPTIONS={given}"]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=variables)
        assert ended.returncode == 0, ended.stderr
        return json.loads((tmp_path / "results" / "cpu.json").read_text())["parts"], ended.stderr

    return run


@pytest.mark.timeout(900)
def test_a_rehearsal_goes_on_where_it_was_cut_and_makes_the_table(gpu, tmp_path):
    parts, said = gpu("--seconds", "0")
    assert all(part == {"cut": True} for part in parts.values())
    assert "cut; the next call goes on here" in said
    parts, said = gpu("--seconds", "800")
    assert [name for name, part in parts.items() if "result" not in part] == []
    assert parts["infer, 3.8B"]["result"]["captions"]["equal"] == 1.0
    assert parts["model, 7B"]["result"]["tiny"][0]["decode_ms"] > 0
    assert "collected" in parts["tests"]["result"]["said"]
    table = (tmp_path / "results" / "cpu.md").read_text()
    assert "| infer, 3.8B | captions |" in table
    assert gpu()[1] == ""  # all of it is there


def test_packages_that_are_not_there_are_named_and_not_installed(gpu, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    parts, said = gpu(python=str(tmp_path / "bare" / "bin" / "python"))
    assert parts["infer, 3.8B"]["lacks"][:2] == ["torch", "torchvision"]
    assert parts["tests"]["lacks"][-1] == "pytest"
    assert "infer, 3.8B: lacks torch, torchvision, transformers" in said
