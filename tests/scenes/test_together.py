"""The end of stage 0: tokens are those of the model itself, targets those of the boxes found, and it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import language
import lessons
import make
import pytest
import together
import torch
import towers
import training
from transformers import AutoModelForImageTextToText
from world import arrange

PICTURES = 12


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True boxes of the first training scenes, as `mgtool detect` would write them."""
    out = tmp_path_factory.mktemp("together") / "train"
    make.write(out, "train", PICTURES)
    return out / "boxes"


@torch.no_grad()
def test_tokens_are_those_of_the_model(untrained: Any, words: Any, boxes: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(untrained.model).eval()
    seen = together.look(model, boxes, "train", PICTURES)
    seeing = together.Seeing(model, words, seen)
    batch = together.batch_of(words, seen, 0, 4)
    for row, tokens, told in zip(batch.rows, seeing.visuals(batch), batch.told, strict=True):
        scene = arrange("train", row)
        true = torch.tensor([thing.box for thing in scene.things], dtype=torch.float)
        [alone] = model.see(towers.normalised([towers.draw(scene)]), true, [len(true)])
        assert len(told) == len(tokens) == towers.GRID**2 + len(scene.things)
        assert torch.nn.functional.cosine_similarity(tokens, alone).min() > 0.99  # kept in bfloat16


def test_boxes_have_the_words_of_what_is_in_them() -> None:
    scene = next(scene for scene in (arrange("train", n) for n in range(99)) if len(scene.things) > 2)
    one, other = scene.things[:2]
    x0, y0, x1, y1 = one.box
    width = x1 - x0
    found = [one.box, (x0, y0, x1 + width // 4, y1), (x0 + 2 * width // 3, y0, x1 + 2 * width // 3, y1), other.box]
    assert together.described(scene, found) == [
        lessons.described(one),
        lessons.described(one),
        [lessons.EMPTY],
        lessons.described(other),
    ]


def test_every_scene_comes_once_in_a_turn_with_other_questions_in_the_next(
    untrained: Any, words: Any, boxes: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(untrained.model).eval()
    seen = together.look(model, boxes, "train", PICTURES)
    steps = [together.batch_of(words, seen, step, 4) for step in range(6)]
    turns = [[row for batch in steps[first : first + 3] for row in batch.rows] for first in (0, 3)]
    assert [sorted(rows) for rows in turns] == [list(range(PICTURES))] * 2
    asked = {}
    for batch in steps:
        for row, ids in zip(batch.rows, batch.input_ids.tolist(), strict=True):
            asked.setdefault(row, set()).add(tuple(ids))
    assert all(len(conversations) == 2 for conversations in asked.values())


def test_it_learns_and_leaves_the_towers_alone(untrained: Any, words: Any, boxes: Path, tmp_path: Path) -> None:
    schedule = training.Schedule(steps=60, batch_size=4, learning_rate=1e-3, warmup=4, save_every=60)
    together.learn(untrained.model, tmp_path, boxes, schedule, PICTURES)
    before, after = (AutoModelForImageTextToText.from_pretrained(path) for path in (untrained.model, tmp_path))
    for name, value in after.state_dict().items():
        kept = torch.equal(value, before.state_dict()[name])
        assert kept == name.startswith(("low_tower", "high_tower")), name
    log = [json.loads(line) for line in (tmp_path / training.LOG).read_text().splitlines()]
    first, *_, last, end = log
    shown = [gaze.name for gaze in language.Reading(words).looks.gazes]
    assert sum(last[name] for name in shown) < 0.8 * sum(first[name] for name in shown)
    assert 0 <= end["answer_tokens"] <= 1
