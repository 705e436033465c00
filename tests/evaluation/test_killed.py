"""Scoring that is killed at any moment leaves nothing half, and the same command ends with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

PHOTOS = Path(__file__).parents[2] / "examples/photos"
OUTPUTS = ("scores.json", "scores.jsonl", "report.html")


def _command(answers: Path, out: Path) -> list[str]:
    truth = [str(PHOTOS / f"pope_{split}.jsonl") for split in ("random", "popular", "adversarial")]
    words = ["eval", str(answers), "--benchmark", "pope", "--images", str(PHOTOS / "images"), "--out", str(out)]
    return [sys.executable, "-m", "mgtool.commands.main", *words, "--ground-truth", *truth]


def test_killed_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    questions = [json.loads(line) for line in (PHOTOS / "pope_questions.jsonl").read_text().splitlines()]
    answers.write_text("".join(json.dumps({"question_id": q["question_id"], "text": "Yes"}) + "\n" for q in questions))
    began = time.perf_counter()
    subprocess.run(_command(answers, tmp_path / "whole"), check=True, capture_output=True)
    took = time.perf_counter() - began
    out = tmp_path / "killed"
    for share in (0.3, 0.6, 0.8, 0.9, 0.95):
        process = subprocess.Popen(_command(answers, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(took * share)
        process.kill()
        process.wait()
        for name in OUTPUTS:
            assert not (out / name).exists() or (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    subprocess.run(_command(answers, out), check=True, capture_output=True)
    for name in OUTPUTS:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
