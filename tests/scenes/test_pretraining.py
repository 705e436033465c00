"""Stage 0: targets are right, training goes on where it stopped, and its parts are what `mgtool import` joins."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import joints
import language
import pytest
import torch
import towers
import training
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerFast
from world import SIGN, SIZE, arrange


def test_every_word_of_the_world_is_one_token(words: PreTrainedTokenizerFast) -> None:
    for name in (*towers.names(), SIGN, *towers.COLOURS, "yes", "no", "top", "left", "USER", "ASSISTANT"):
        assert len(words.encode(name, add_special_tokens=False)) == 1, name
    text = "Is there a Wombat, über 9°?"
    assert words.decode(words.encode(text, add_special_tokens=False)).strip() == text


def test_a_told_scene_has_the_order_of_the_visual_tokens() -> None:
    scene = arrange("train", 5)
    tokens = next(found for seed in range(9) if len(found := language.told(scene, Random(seed))) > towers.GRID**2)
    cells, listed = tokens[: towers.GRID**2], tokens[towers.GRID**2 :]
    largest = max(scene.things, key=lambda thing: thing.size)
    row, column = divmod(towers.cell_of(largest), towers.GRID)
    told = cells[towers.cell_of(largest)]
    assert told[0] == largest.name
    assert told[-2:] == [language.ROWS[row], language.COLUMNS[column]]
    assert sorted(words[0] for words in listed) == sorted(thing.name for thing in scene.things)
    empty = sum(words[0] == language.EMPTY for words in cells)
    assert empty == towers.GRID**2 - len({towers.cell_of(thing) for thing in scene.things})


def test_easier_scenes_have_fewer_objects_and_right_questions() -> None:
    scene = arrange("train", 5)
    sizes = [len(language.easier(scene, grown, Random(0)).things) for grown in (0.0, 0.5, 1.0)]
    assert sizes[0] == language.FEWEST < sizes[1] < sizes[2] == len(scene.things)
    for seed in range(20):
        easy = language.easier(scene, 0.0, Random(seed))
        kept = {thing.name for thing in easy.things}
        assert easy.counted in kept
        inventory = language.inventory(easy)
        assert [entry.split(" ")[0] in kept for entry in inventory.split(", ")] == [True, True]


def test_targets_of_towers() -> None:
    batch = towers.load("train", 3, 4)
    assert batch.pixels.shape == (4, 3, SIZE, SIZE)
    for row, number in enumerate(range(3, 7)):
        things = arrange("train", number).things
        known = batch.labels[row] != towers.IGNORED
        assert int(known.sum()) == len(things)
        assert [tuple(box) for box in batch.boxes[row][known].int().tolist()] == [thing.box for thing in things]
        assert batch.labels[row][known].tolist() == [towers.LABELS[thing.name] for thing in things]
        assert batch.tiles[row][known].tolist() == [towers.TILES[thing.tile] for thing in things]


def test_zoomed_views_keep_boxes_on_their_objects() -> None:
    """The pixels in a zoomed box are those of the box in the whole scene, enlarged."""
    plain, zoomed = towers.load("train", 0, 8), towers.load("train", 0, 8, zoomed=1.0)
    sizes = plain.sizes[plain.labels != towers.IGNORED].mean(), zoomed.sizes[zoomed.labels != towers.IGNORED].mean()
    assert sizes[1] > 1.3 * sizes[0]
    assert float(zoomed.boxes.min()) >= 0
    assert float(zoomed.boxes.max()) <= SIZE


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 1)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.linear(batch) - batch.sum(dim=1, keepdim=True)).square().mean()}


def _batch(step: int) -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def test_a_stopped_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    schedule = training.Schedule(steps=40, batch_size=8, learning_rate=0.05, warmup=4, save_every=10)
    whole, stopped, resumed = _Line(), _Line(), _Line()
    training.train(whole, _batch, dict, schedule, tmp_path / "whole")

    def stop_at_25(step: int) -> Tensor:
        if step == 25:
            raise KeyboardInterrupt
        return _batch(step)

    with pytest.raises(KeyboardInterrupt):
        training.train(stopped, stop_at_25, dict, schedule, tmp_path / "halves")
    training.train(resumed, _batch, dict, schedule, tmp_path / "halves")
    assert torch.equal(whole.linear.weight, resumed.linear.weight)
    assert whole(_batch(99))["loss"] < 0.2 * _Line()(_batch(99))["loss"]


def test_parts_become_one_model(untrained: Any) -> None:
    modules = untrained.modules
    assert untrained.counts["parameters"] * 2 < 15_000_000
    model = AutoModelForImageTextToText.from_pretrained(untrained.model).eval()
    assert model.config.image_size == SIZE
    assert model.config.low_grid == towers.GRID
    batch = towers.load("val", 0, 2)
    with torch.no_grad():
        stages = model.encode_high(batch.pixels)
        features = towers.pool_boxes(stages, batch.boxes, image_size=SIZE, bins=model.config.box_bins)
        (names, _, _), _ = modules["high"].eval().predict(batch)
        again = modules["high"].boxes(features).split([towers.NONE, len(towers.TILES), len(towers.TEXTS)], dim=-1)[0]
        low, tokens = model.encode_low(batch.pixels), modules["low"].eval()
        states = tokens.encoder(
            pixel_values=towers.low_pixels(batch.pixels, towers.LOW_SIZE), output_hidden_states=True
        ).hidden_states[towers.LOW_LAYER]
    assert torch.allclose(names, again, atol=1e-5)
    assert torch.allclose(low, states[:, 1:], atol=1e-5)


def test_fusion_and_projectors_learn_the_words(untrained: Any) -> None:
    """The share of the words' embeddings that is missed falls below that of a guess of nothing, which is 1."""
    lines = (untrained.folder / "parts/joints.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["cells"] < 0.9
    assert last["things"] < 0.9


def test_what_the_towers_see_stands_beside_its_words(untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joints, "PICTURES", untrained.pictures)
    low, high, reading = (module.eval() for module in untrained.modules.values())
    embed = reading.llm.get_input_embeddings()
    words = AutoTokenizer.from_pretrained(untrained.model)
    seen = joints.look(low, high, embed, words)
    assert len(seen.low) == untrained.pictures
    for number in (0, 7):
        scene = arrange("train", number)
        assert int(seen.is_thing[number].sum()) == len(scene.things)
        for place, thing in enumerate(scene.things):
            ids = [words.convert_tokens_to_ids(f"{language.SPACE}{word}") for word in language.described(thing)]
            assert torch.allclose(seen.things[number, place], embed.weight[ids].sum(dim=0), atol=1e-6)
        assert int(seen.is_full[number].sum()) == len({towers.cell_of(thing) for thing in scene.things})
