"""What the commands say with --json has one name and one shape, and what they leave has one form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

CAT = Path(__file__).parents[2] / "examples/photos/images/cat.jpg"


def test_failures_are_one_number_and_always_a_file(mgtool, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    shutil.copy(CAT, tmp_path / "pictures")
    options = {
        "detect": ("--out", tmp_path / "detect", "--workers", 0),
        "pack": ("--out", tmp_path / "pack", "--workers", 1),
        "infer": ("--task", "caption", "--max-new-tokens", 2, "--model", "tiny", "--out", tmp_path / "infer/a.jsonl"),
    }
    for command, more in options.items():
        code, out, err = mgtool(command, tmp_path / "pictures", *more, "--json")
        assert code == 0, err
        assert json.loads(out)["failures"] == 0
        assert (tmp_path / command / "failures.jsonl").read_bytes() == b""
