"""Answers and questions of strangers that are long: read in a time that grows as they do."""

from __future__ import annotations

import time

import pytest

from mgtool import benchmarks
from mgtool.benchmarks import custom, mmmu

LENGTH, MOST_S = 200_000, 2.0
NUMBERS = [1234.0, 5500.0, 100000.0, 3.0, 234.5, 5.5, 0.5, 5.0]
"""What the original's own patterns find."""


@pytest.mark.parametrize("unit", ["0", "1,", "1.", "1e", "-", "7 "])
@pytest.mark.parametrize("end", ["", "x"])
def test_numbers_in_an_open_answer(unit: str, end: str) -> None:
    text = unit * (LENGTH // len(unit)) + end
    began = time.process_time()
    for pattern in mmmu._NUMBERS:
        pattern.findall(text)
    assert time.process_time() - began < MOST_S


def test_the_numbers_are_those_of_the_original() -> None:
    assert mmmu.candidates("is 3-12, 1,234.5 or 5.5.5e3, .5 and 1e5")[1:] == NUMBERS
    item = benchmarks.Item(id=1, target="12", fields={"question_type": "open", "options": {}})
    assert benchmarks.get("mmmu").score(item, "so it is 3 or 12", "official").score == 1


@pytest.mark.parametrize("text", ["\n" * LENGTH, "A. x" + " " * LENGTH + "y", "A.\n" * (LENGTH // 3)])
def test_options_in_a_question(text: str) -> None:
    began = time.process_time()
    custom._OPTION.findall(text)
    assert time.process_time() - began < MOST_S
    assert custom._OPTION.findall("Which?\n (A) a cat \nB. dog") == [("A", "a cat"), ("B", "dog")]
