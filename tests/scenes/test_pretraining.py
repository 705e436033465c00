"""Stage 0: targets are right, training goes on where it stopped, and its parts are what `mgtool import` joins."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import joints
import language
import lessons
import looking
import pytest
import torch
import towers
import training
from sprites import plural
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerFast
from world import SIGN, SIZE, arrange

from mgtool.model.splice import splice


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
    return _conversation(number, searching=False)[0][0].removeprefix("<image>\n")


def _conversation(number: int, *, searching: bool = True) -> list[tuple[str, str]]:
    """As `language.load` has it."""
    rng = Random(f"train {number} told")
    return lessons.turns(lessons.easier(arrange("train", number), 1.0, rng), rng, searching=searching)


def test_heads_are_shown_where_a_name_is(words: PreTrainedTokenizerFast) -> None:
    """The places that hold it, its objects beside the first token; the first token alone without a match."""
    looks = looking.Looks(words)
    batch = language.load(words, "train", 0, 8)
    for number in range(8):
        sample = language.sample(batch, number)
        asking, wanted = looks.looked_up(sample)
        things = [thing.name for thing in arrange("train", number).things]
        shown = _shown(sample)
        assert torch.allclose(wanted.sum(dim=-1), torch.ones(3, len(asking)))
        assert torch.equal(wanted[1:], looks.counted(sample)[1])
        assert len(asking) > 0
        for place, where, each in zip(asking.tolist(), *wanted[:2], strict=True):
            singular = int(looks.words.singular[sample.ids[place]])
            name = words.convert_ids_to_tokens(singular).removeprefix(looking.SPACE)
            for weights in (where, each):
                assert {shown[at] for at in weights.nonzero().flatten().tolist() if at} <= {singular}
            assert name in things or float(each[0]) == float(where[0]) == 1
            if len(sample.shown) > towers.GRID**2 and name in things:
                assert float(each[0]) == pytest.approx(looking.FIRST / (looking.FIRST + things.count(name)))


def test_heads_are_shown_what_a_question_names_and_what_has_the_answer(words: PreTrainedTokenizerFast) -> None:
    looks = looking.Looks(words)
    sought = {*towers.names(), *map(plural, towers.names()), *towers.COLOURS, *looking.SIDES}
    seen: Counter[str] = Counter()
    for number in range(24):
        batch = language.load(words, "train", number, 1, searching=True)
        sample = language.sample(batch, 0)
        conversation = _conversation(number)
        questions = [question for question, _ in conversation if lessons.DRILL not in question]
        if len(questions) < len(conversation):
            continue
        asking, wanted = looks.asked(sample)
        named = [found for question in questions if (found := _named(question, sought))]
        assert len(asking) == len(named)
        for found, weights in zip(named, wanted[0], strict=True):
            at = weights.nonzero().flatten()
            assert {words.decode(token).strip() for token in sample.ids[at]} == found
        shown = _shown(sample)
        first = [answer.split(" ")[0] for _, answer in conversation]
        asking, (wanted,) = looks.searched(sample)
        answers = [words.decode(sample.ids[place + 1]).strip() for place in asking.tolist()]
        assert answers == [word for word in first if word in towers.names()]
        for place, weights in zip(asking.tolist(), wanted, strict=True):
            at = [at for at in weights.nonzero().flatten().tolist() if at]
            assert {shown[one] for one in at} <= {int(sample.ids[place + 1])}
            seen["found" if at else "hidden"] += 1
    assert seen["found"] > 2 * seen["hidden"]


@torch.no_grad()
@pytest.mark.parametrize("exact", [True, False])
def test_what_heads_miss_is_that_of_their_attention(words: PreTrainedTokenizerFast, *, exact: bool) -> None:
    """Against the attention that transformers itself returns."""
    reading = language.Reading(words).eval()
    reading.llm.set_attn_implementation("eager")
    batch = language.load(words, "train", 0, 3, exact=exact)
    losses, (attention, padding) = reading(batch), _attention(reading, batch)
    for gaze in reading.looks.gazes:
        missed, odds = [], []
        for row in range(3):
            asking, wanted = gaze.wanted(language.sample(batch, row))
            given = attention[gaze.layer][row][list(gaze.heads)][:, asking + padding[row], padding[row] :]
            missed.append(-torch.where(wanted > 0, wanted * given.log(), 0.0).sum(dim=-1).flatten())
            shared = (wanted[..., 0] > 0) & (wanted[..., 0] < 1)
            odds.append((given[..., 0].logit() - wanted[..., 0].logit())[shared] ** 2)
        expected = torch.cat(missed).mean()
        if exact and gaze.counts:
            expected = looking.EXACT * expected + looking.ODDS * torch.cat(odds).mean()
        assert float(losses[gaze.name]) == pytest.approx(float(expected), rel=1e-3), gaze.name


def _attention(reading: language.Reading, batch: language.Batch) -> tuple[tuple[Tensor, ...], list[int]]:
    """What each layer attends to, and how far each sample is padded on the left."""
    embed = reading.llm.get_input_embeddings()
    visuals = [language.summed(ids, embed) for ids in batch.told]
    spliced = splice(batch.input_ids, batch.attention_mask, visuals, embed, batch.labels)
    out = reading.llm.model(
        inputs_embeds=spliced.inputs_embeds,
        attention_mask=spliced.attention_mask,
        position_ids=spliced.position_ids,
        output_attentions=True,
    )
    return out.attentions, (spliced.attention_mask == 0).sum(dim=1).tolist()


@torch.no_grad()
def test_words_fade_alike_whenever_scenes_come(words: PreTrainedTokenizerFast) -> None:
    embed = language.Reading(words).llm.get_input_embeddings()
    batch = language.load(words, "train", 5, 2, fade=True)
    one, again, other = (
        torch.cat(language.faded(each.told, embed, each.seed))
        for each in (batch, language.load(words, "train", 5, 2, fade=True), replace(batch, seed=6))
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    exact = torch.cat([language.summed(ids, embed) for ids in batch.told])
    missed = float((one - exact).square().sum() / exact.square().sum())
    assert 0.5 * language.FADED**2 < missed < 4 * language.FADED**2


def _named(question: str, sought: set[str]) -> set[str]:
    return set(re.findall(r"\w+", question)) & sought


def _shown(sample: looking.Sample) -> dict[int, int]:
    """Position -> the first word there."""
    return {sample.first + number: int(word) for number, word in enumerate(sample.shown[:, 0])}


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
    assert untrained.counts.parameters * 2 < 15_000_000
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
