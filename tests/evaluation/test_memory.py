"""Memory does not grow with the answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FEW, MANY = 12_000, 48_000
MOST_GROWTH = 10_000
"""KiB; as lists, so many answers more take twice as much."""


def peak(folder: Path, count: int) -> int:
    """KiB that an evaluation of so many answers takes at most."""
    with (folder / "truth.jsonl").open("w") as truth, (folder / "answers.jsonl").open("w") as answers:
        for number in range(count):
            picture = f"{number // 10:06d}.jpg"
            asked = {"question_id": number, "image": picture, "text": "Is there a cup?"}
            truth.write(json.dumps({**asked, "label": "yes" if number % 2 else "no"}) + "\n")
            answers.write(json.dumps({**asked, "prompt": "Is there a cup?", "text": "Yes", "model_id": "m"}) + "\n")
    command = [sys.executable, "-m", "mgtool", "eval", str(folder / "answers.jsonl"), "--benchmark", "pope"]
    where = ["--ground-truth", str(folder / "truth.jsonl"), "--out", str(folder / f"scores-{count}"), "-q"]
    run = subprocess.Popen([*command, *where])
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    assert run.returncode == 0
    return usage.ru_maxrss


def test_four_times_the_answers_take_hardly_more_memory(tmp_path: Path) -> None:
    assert peak(tmp_path, MANY) - peak(tmp_path, FEW) < MOST_GROWTH
