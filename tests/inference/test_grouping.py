"""Windows of an input: full ones, slow ones, broken ones; what is shared is asked once."""

from __future__ import annotations

import threading
import time
from itertools import chain
from pathlib import Path

import pytest

from mgtool.boxes.lookup import BoxSource
from mgtool.errors import InputError
from mgtool.inference.grouping import Planner
from mgtool.inference.prompts import Prompter
from mgtool.inference.read_ahead import PATIENCE_S, READ_AHEAD, read_ahead, windows
from mgtool.model import MGLlavaProcessor
from mgtool.records import Media, Sample, Turn

PHOTOS = Path(__file__).parent.parent / "images"


def cut(items, *, samples=4, size=100):
    with read_ahead(items) as ahead:
        return list(windows(ahead, lambda item: ([item], item), samples=samples, size=size))


def test_windows_end_with_samples_or_bytes():
    assert cut([1] * 10) == [[1] * 4, [1] * 4, [1] * 2]
    assert cut([60, 60, 99, 1, 1]) == [[60, 60], [99, 1], [1]]
    assert cut([]) == []


def test_items_that_are_not_planned_take_no_room():
    with read_ahead(range(10)) as ahead:
        found = list(windows(ahead, lambda item: ([item] if item % 2 else [], 0), samples=2, size=9))
    assert found == [[1, 3], [5, 7], [9]]


def test_a_window_without_anything_planned_is_handed_on():
    with read_ahead(range(5)) as ahead:
        assert list(windows(ahead, lambda item: ([], 0), samples=2, size=9)) == [[], []]


def test_a_slow_input_is_answered_as_it_comes():
    answered = threading.Event()

    def items():
        yield 1
        yield 2
        assert answered.wait(60), "the window waited for the third item"
        yield 3

    with read_ahead(items()) as ahead:
        found = []
        for window in windows(ahead, lambda item: ([item], 0), samples=256, size=9):
            found.append(window)
            if list(chain(*found)) == [1, 2]:
                answered.set()
    assert list(chain(*found)) == [1, 2, 3]
    assert found[-1] == [3]


@pytest.mark.parametrize("error", [InputError("the input broke"), TimeoutError("the network is gone")])
def test_what_goes_wrong_in_the_reader_is_raised_where_it_is_asked_for(error):
    def items():
        yield 1
        raise error

    with pytest.raises(type(error), match=str(error)):
        cut(items())


def test_windows_without_patience_do_not_depend_on_time():
    def items():
        for number in range(3):
            time.sleep(2 * PATIENCE_S)
            yield number

    with read_ahead(items()) as ahead:
        assert list(windows(ahead, lambda item: ([item], 0), samples=2, size=9, patience=None)) == [[0, 1], [2]]


def test_no_more_is_read_than_will_be_asked_for_soon():
    taken = []

    def items():
        for number in range(10 * READ_AHEAD):
            taken.append(number)
            yield number

    with read_ahead(items()) as ahead:
        got = [ahead.get() for _ in range(3)]
        ahead._thread.join(0.5)
    ahead._thread.join(60)
    assert got == [0, 1, 2]
    assert not ahead._thread.is_alive()
    assert len(taken) <= READ_AHEAD + len(got) + 1


@pytest.fixture(scope="module")
def processor(models):
    return MGLlavaProcessor.from_pretrained(models["vicuna"])


def sample(number, name, text):
    media = Media(name=name, uri=str(PHOTOS / name))
    return Sample(id=number, images=(media,), turns=(Turn("human", text),))


def test_questions_of_a_picture_are_one_group_long_ones_first(processor):
    texts = ["What?", "Is it day? " * 9, "Who?"]
    names = ["coffee.jpg", "china.jpg"]
    samples = [sample(2 * at + which, name, text) for at, text in enumerate(texts) for which, name in enumerate(names)]
    planner = Planner(Prompter(), processor, BoxSource())
    groups = list(planner.groups(enumerate(samples)))
    assert [list(group.numbers) for group in groups] == [[2, 0, 4], [3, 1, 5]]
    assert [len(group.pictures) for group in groups] == [1, 1]
    for group in groups:
        assert {tuple(ids[: group.common]) for ids in group.prompts} == {tuple(group.prompts[0][: group.common])}
        assert len({ids[group.common] for ids in group.prompts}) > 1
    assert planner.is_ready()
