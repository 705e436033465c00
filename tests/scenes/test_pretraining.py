"""Stage 0: targets are right, training goes on where it stopped, and its parts are what `mgtool import` joins."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import joints
import language
import lessons
import pytest
import torch
import towers
import training
from sprites import plural
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
    tokens = next(found for seed in range(9) if len(found := lessons.told(scene, Random(seed))) > towers.GRID**2)
    cells, listed = tokens[: towers.GRID**2], tokens[towers.GRID**2 :]
    largest = max(scene.things, key=lambda thing: thing.size)
    row, column = divmod(towers.cell_of(largest), towers.GRID)
    told = cells[towers.cell_of(largest)]
    assert told[0] == largest.name
    assert told[-2:] == [lessons.ROWS[row], lessons.COLUMNS[column]]
    assert sorted(words[0] for words in listed) == sorted(thing.name for thing in scene.things)
    empty = sum(words[0] == lessons.EMPTY for words in cells)
    assert empty == towers.GRID**2 - len({towers.cell_of(thing) for thing in scene.things})


def test_easier_scenes_have_fewer_objects_and_right_questions() -> None:
    scene = arrange("train", 5)
    sizes = [len(lessons.easier(scene, grown, Random(0)).things) for grown in (0.0, 0.5, 1.0)]
    assert sizes[0] == lessons.FEWEST < sizes[1] < sizes[2] == len(scene.things)
    for seed in range(20):
        easy = lessons.easier(scene, 0.0, Random(seed))
        kept = {thing.name for thing in easy.things}
        assert easy.counted in kept
        inventory = lessons.inventory(easy, Random(seed))
        assert [entry.split(" ")[0] in kept for entry in inventory.split(", ")] == [True, True]


def test_drills_ask_each_name_once_and_rightly() -> None:
    for number in range(30):
        scene = arrange("train", number)
        counts = Counter(thing.name for thing in scene.things)
        tiles = {thing.name: thing.tile for thing in scene.things}
        sizes = {thing.name: thing.size for thing in scene.things}
        asked: list[str] = []
        for question, answer in (entry.split(" = ") for entry in lessons.drill(scene, Random(number)).split(", ")):
            kind, *name = question.split(" ")
            asked += [part for part in question.split(" ") if part not in ("is", "many", "where", "tile", "or")]
            if kind == "is":
                assert (answer == "yes") == (name[0] in counts)
            elif kind == "many":
                assert plural(next(one for one in counts if plural(one) == name[0])) == name[0]
                assert counts[next(one for one in counts if plural(one) == name[0])] == int(answer)
            elif kind == "tile":
                assert answer == tiles[name[0]]
            elif kind != "where":
                assert sizes[answer] == max(sizes[kind], sizes[name[1]])
        there = Counter(name for name in asked if name in {form for one in counts for form in (one, plural(one))})
        assert set(there.values()) == {1}


def test_searches_ask_for_names_that_are_there_and_each_question_once() -> None:
    for number in range(30):
        scene = arrange("train", number)
        asked = lessons.searches(scene, Random(number))
        present = {thing.name for thing in scene.things}
        assert len({question for question, _ in asked}) == len(asked)
        assert {answer for question, answer in asked if question.startswith("What")} <= present
        assert any(question.startswith("How many") for question, _ in asked)


def test_only_the_answers_of_a_drill_are_learned(words: PreTrainedTokenizerFast) -> None:
    scene = next(arrange("train", n) for n in range(99) if _first(n) == lessons.DRILL)
    batch = language.load(words, "train", scene.number, 1)
    rng = Random(f"train {scene.number} told")
    (_, answer), *_ = lessons.turns(lessons.easier(scene, 1.0, rng), rng)
    told = " ".join(entry.split(" = ")[1] for entry in answer.split(", "))
    assert words.decode(batch.labels[batch.labels >= 0]) == f" {told}{words.eos_token}"


def _first(number: int) -> str:
    rng = Random(f"train {number} told")
    scene = lessons.easier(arrange("train", number), 1.0, rng)
    return lessons.turns(scene, rng)[0][0].removeprefix("<image>\n")


def test_heads_are_shown_where_a_name_is(words: PreTrainedTokenizerFast) -> None:
    """The places that hold it, its objects and the first token alike; the first token alone without a match."""
    reading = language.Reading(words)
    batch = language.load(words, "train", 0, 8)
    for row, told in enumerate(batch.told):
        wanted, asking = reading._wanted(batch, row, told)
        ids = batch.input_ids[row][batch.attention_mask[row].bool()]
        before = int((ids < 0).nonzero())
        things = [thing.name for thing in arrange("train", row).things]
        assert torch.allclose(wanted.sum(dim=-1), torch.ones(2, len(asking)))
        text = torch.cat([ids[:before], told[:, 0], ids[before + 1 :]])
        assert len(asking) > 0
        for name, where, each in zip(asking, wanted[language.WHERE], wanted[language.EACH], strict=True):
            singular = int(reading.singular[text[name]])
            present = words.convert_ids_to_tokens(singular).removeprefix(language.SPACE) in things
            for looks in (where, each):
                assert set(text[1:][looks[1:] > 0].tolist()) <= {singular}
            assert present or float(each[0]) == 1
            if len(told) > towers.GRID**2 and present:
                count = things.count(words.convert_ids_to_tokens(singular).removeprefix(language.SPACE))
                assert float(each[0]) == pytest.approx(1 / (1 + count))


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
            ids = [words.convert_tokens_to_ids(f"{language.SPACE}{word}") for word in lessons.described(thing)]
            assert torch.allclose(seen.things[number, place], embed.weight[ids].sum(dim=0), atol=1e-6)
        assert int(seen.is_full[number].sum()) == len({towers.cell_of(thing) for thing in scene.things})
