"""A model's scores on a set of scenes: asked by `mgtool infer`, scored by `mgtool eval`.

python examples/scenes/scores.py MODEL OUT --set out/scenes/data/test --boxes out/scenes/boxes/test
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CAPTION_TOKENS = 128
ANSWER_TOKENS = 8


class Score(NamedTuple):
    """A metric in percent, with its standard error over the questions."""

    value: float
    stderr: float
    n: int


def main() -> None:
    """Parse the command line and print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Score a model on a set of scenes.")
    parser.add_argument("model", help="a model's folder")
    parser.add_argument("out", type=Path, help="folder for answers and reports")
    parser.add_argument("--set", dest="scenes", type=Path, required=True, help="what make.py wrote for one set")
    parser.add_argument("--boxes", type=Path, required=True, help="what mgtool detect found in its pictures")
    given = parser.parse_args()
    print("| category | n | score |\n|---|---|---|")
    for category, score in measure(given.model, given.scenes, given.boxes, given.out).items():
        print(f"| {category} | {score.n} | {score.value:.1f} ± {score.stderr:.1f} |")


def measure(model: str, scenes: Path, boxes: Path, out: Path, *more: str) -> dict[str, Score]:
    """The scores by category; `more` are further options of `mgtool infer`. What stands in `out` already is kept."""

    def ask(name: str, tokens: int) -> Path:
        answers = out / name / "answers.jsonl"
        paths = ["--images", str(scenes / "images"), "--boxes", str(boxes), "--model", model, "--out", str(answers)]
        mgtool("infer", str(scenes / f"{name}.jsonl"), *paths, "--max-new-tokens", str(tokens), *more)
        return answers

    def score(name: str, benchmark: str, tokens: int, *truth: str) -> dict[str, dict[str, Score]]:
        folder = out / benchmark
        files = [str(scenes / file) for file in truth]
        mgtool("eval", str(ask(name, tokens)), "--benchmark", benchmark, "--ground-truth", *files, "--out", str(folder))
        found = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        return {kind: _read(group) for kind, group in [("", found["metrics"]), *found["breakdown"].items()]}

    existence = score("pope_questions", "pope", ANSWER_TOKENS, "pope_random.jsonl", "pope_adversarial.jsonl")[""]
    others = score("questions", "gqa", ANSWER_TOKENS, "answers.json")["semantic"]
    captions = score("caption_questions", "coco-caption", CAPTION_TOKENS, "captions.json")[""]
    return {"existence (F1)": existence["f1"], **others, "caption (CIDEr)": captions["CIDEr"]}


def _read(metrics: dict[str, dict[str, float | None]]) -> dict[str, Score]:
    known = {name: entry for name, entry in metrics.items() if entry["value"] is not None}
    return {name: Score(entry["value"], entry["stderr"] or 0.0, entry["n"]) for name, entry in known.items()}


def mgtool(*arguments: str) -> None:
    """Run a command of the mgtool that belongs to this Python, quietly."""
    command = [sys.executable, "-m", "mgtool.commands.main", *arguments, "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
