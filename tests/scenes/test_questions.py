"""Answers are true, turns do not give each other away, and questions alone do not tell their answers."""

from __future__ import annotations

import re
from random import Random

import prior
import pytest
import questions
from questions import CATEGORIES, MARGIN, TURNS, Question, conversation
from world import SIGN, SIZE, SMALL, Scene, Thing, arrange

SCENES = [arrange("val", number) for number in range(150)]


def _asked(category: str) -> list[tuple[Scene, Question]]:
    pairs = ((scene, CATEGORIES[category](scene, Random(scene.number))) for scene in SCENES)
    found = [(scene, question) for scene, question in pairs if question is not None]
    assert len(found) > 50
    return found


def _thing(scene: Scene, name: str) -> Thing:
    (thing,) = [thing for thing in scene.things if thing.name == name]
    return thing


def test_existence() -> None:
    for scene, question in _asked("existence"):
        (name,) = question.names
        assert f" {name} in the image?" in question.text
        assert question.answer == ("yes" if any(thing.name == name for thing in scene.things) else "no")


def test_counting() -> None:
    for scene, question in _asked("counting"):
        assert question.answer == str([thing.name for thing in scene.things].count(question.names[0]))


def test_position() -> None:
    for scene, question in _asked("position"):
        x, y = _thing(scene, question.names[0]).centre
        rows, columns = question.answer.split()
        assert y < SIZE / 2 - MARGIN + 1 if rows == "top" else y > SIZE / 2 + MARGIN - 1
        assert x < SIZE / 2 - MARGIN + 1 if columns == "left" else x > SIZE / 2 + MARGIN - 1


def test_colour() -> None:
    for scene, question in _asked("colour"):
        assert question.answer == _thing(scene, question.names[0]).tile != ""


def test_comparison() -> None:
    for scene, question in _asked("comparison"):
        (other,) = set(question.names) - {question.answer}
        assert _thing(scene, question.answer).size > 1.4 * _thing(scene, other).size


def test_relation() -> None:
    """The answer lies on the side that was asked for, and nothing else on that side is nearer."""
    for scene, question in _asked("relation"):
        side, name = re.fullmatch(r"What is (.*) the (\w+)\?", question.text).groups()
        reaches = [(_reach(thing, _thing(scene, name), side), thing.name) for thing in scene.things]
        on_side = [(sum(reach), other) for reach, other in reaches if reach[0] > reach[1] and other != name]
        assert min(on_side)[1] == question.answer != SIGN


def _reach(thing: Thing, origin: Thing, side: str) -> tuple[float, float]:
    """How far ahead on a side, and how far off it, a thing is."""
    right, down = (a - b for a, b in zip(thing.centre, origin.centre, strict=True))
    ahead = {"left of": -right, "right of": right, "above": -down, "below": down}[side]
    return ahead, abs(down if side.endswith("of") else right)


def test_naming_is_of_small_objects() -> None:
    for scene, question in _asked("naming"):
        things = [thing for thing in scene.things if thing.name == question.answer]
        assert min(thing.size for thing in things) < SMALL
        if question.template == "tile":
            assert any(f" {thing.tile} tile?" in question.text for thing in things)


def test_reading() -> None:
    for scene, question in _asked("reading"):
        assert question.answer == _thing(scene, SIGN).text


def test_a_caption_names_everything_once() -> None:
    for scene in SCENES[:20]:
        said = re.findall(r"\w+", questions.caption(scene))
        for name in {thing.name for thing in scene.things}:
            count = sum(thing.name == name for thing in scene.things)
            assert said.count(name) == (count == 1)
            assert count == 1 or said[said.index(questions.plural(name)) - 1] == str(count)


def test_no_turn_tells_the_names_of_another() -> None:
    for scene in SCENES:
        turns = conversation(scene, Random(scene.number))
        told = [name for turn in turns for name in set(turn.names)]
        assert len(told) == len(set(told))
        assert 3 <= len(turns) <= TURNS


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[float, float, float, float]]:
    """What can be guessed blindly on scenes of the test set, learnt from training scenes."""
    seen = [
        (turn.text, turn.answer)
        for number in range(3000)
        for turn in conversation(arrange("train", number), Random(f"train {number} conversation"))
    ]
    asked: dict[str, list[prior.Asked]] = {category: [] for category in CATEGORIES}
    for number in range(600):
        scene, rng = arrange("test", number), Random(number)
        for category, ask in CATEGORIES.items():
            question = ask(scene, rng)
            if question:
                asked[category].append((question.text, question.answer))
    return prior.measure(seen, asked)


@pytest.mark.parametrize("category", CATEGORIES)
def test_blind_guesses_are_at_chance(table: dict[str, tuple[float, float, float, float]], category: str) -> None:
    count, chance, by_form, by_words = table[category]
    error = (chance * (100 - chance) / count) ** 0.5
    assert count > 200
    assert by_form < chance + 4 * error
    assert by_words < chance + 4 * error


def test_the_blind_guesser_finds_a_prior_where_there_is_one() -> None:
    seen = [("Is there a cat in the image?", "yes")] * 9 + [("Is there a dog in the image?", "no")] * 9
    guesser = prior.Guesser(seen)
    assert guesser.by_words("Is there a cat in the image?") == "yes"
    assert guesser.by_words("Is there a dog in the image?") == "no"
    larger = prior.Guesser([("Which is larger, the cat or the dog?", "cat")] * 3)
    assert larger.by_form("Which is larger, the fox or the owl?") == "fox"
