"""One picture, and files that ask, answer and score one question about it: an input for every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

PHOTO = Path(__file__).parents[1] / "images" / "coffee.jpg"


def write_small_inputs(folder: Path) -> None:
    """Write photos/a.jpg, c.json (a conversation), q.jsonl, answers.jsonl, truth.jsonl and t.toml (a table)."""
    (folder / "photos").mkdir()
    shutil.copy(PHOTO, folder / "photos" / "a.jpg")
    turns = [{"from": "human", "value": "<image>\nQ?"}, {"from": "gpt", "value": "A"}]
    (folder / "c.json").write_text(json.dumps([{"id": "a", "image": "a.jpg", "conversations": turns}]))
    (folder / "q.jsonl").write_text(json.dumps({"question_id": 1, "image": "a.jpg", "text": "Q?"}))
    (folder / "answers.jsonl").write_text(json.dumps({"question_id": 1, "prompt": "Q?", "text": "A", "model_id": "m"}))
    (folder / "truth.jsonl").write_text(json.dumps({"question_id": 1, "text": "Q?", "answer": "A"}))
    (folder / "t.toml").write_text(
        "[[benchmark]]\nname = 'custom'\n[benchmark.eval]\nground_truth = ['truth.jsonl']\n"
        "[[row]]\nname = 'm'\n[row.answers]\ncustom = 'answers.jsonl'\n"
    )
