"""Towers and prefill of several groups at once: the tokens of one by one, in a constant number of operations."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from groups import Lengths, operations_script, picture
from tiny_models import tiny_config, tiny_model
from transformers import AutoTokenizer

from mgtool.inference import engine as engines
from mgtool.inference import memory
from mgtool.inference.engine import Engine
from mgtool.inference.rows import Rows
from mgtool.inference.scheduler import Group
from mgtool.model import IMAGE_TOKEN_ID, MGLlavaProcessor

TESTS = Path(__file__).parent.parent
BATCH = 8
"""What the operations of 64 pictures are compared with."""
MOST = 1.3


@pytest.fixture(scope="module")
def served():
    model = tiny_model(tiny_config())
    return model, MGLlavaProcessor(AutoTokenizer.from_pretrained(TESTS / "conformance" / "mg_llava" / "llm"))


@pytest.fixture
def together(monkeypatch):
    """A CPU prefills as many groups as another device does."""
    monkeypatch.setattr(memory, "GROUPS_AT_ONCE", {})
    monkeypatch.setattr(engines, "Rows", functools.partial(Rows, at_once=True))


def grouped(count, each=1):
    """Groups whose prefixes differ in boxes and words; every third shows two pictures, the second behind its words."""
    groups = []
    for at in range(count):
        shown = [picture(at % 5), *([picture(at % 3)] if each > 1 and at % 3 == 2 else [])]
        start = [1, IMAGE_TOKEN_ID, *range(30, 31 + at % 4)]
        second = [IMAGE_TOKEN_ID] if len(shown) > 1 else []
        prompts = [[*start, 50 + number, *second, *range(60, 61 + number)] for number in range(each)]
        groups.append(Group((str(at),), shown, range(at * each, (at + 1) * each), prompts))
    return groups


def answers(served, groups, **budget):
    engine = Engine(*served, max_new_tokens=6, batch_size=budget.pop("batch_size", 400), sampler=Lengths())
    for name, most in budget.items():
        setattr(engine._budget, name, most)
    return {number: outcome.ids for number, outcome in engine.generate(groups)}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("each", [1, 3])
def test_answers_of_groups_that_begin_together_are_those_of_one_by_one(served, each, at_once, monkeypatch):
    groups = grouped(13, each)
    alone = answers(served, groups, batch_size=1)
    monkeypatch.setattr(memory, "GROUPS_AT_ONCE", {})
    monkeypatch.setattr(engines, "Rows", functools.partial(Rows, at_once=at_once))
    assert answers(served, groups) == alone
    assert answers(served, groups, pictures=4) == alone


def begun(served, count, each, **budget):
    """The operations of towers and prefill of so many groups, and how many prefills they took."""
    engine = Engine(*served, max_new_tokens=6, batch_size=400, sampler=Lengths())
    for name, most in budget.items():
        setattr(engine._budget, name, most)
    engine._scheduler.supply(grouped(count, each), lambda: True)
    prefills = 0
    with torch.inference_mode(), operations_script().Counted() as counted:
        while engine._scheduler.has_room():
            engine._prefill()
            prefills += 1
    return counted.operations, prefills


@pytest.mark.parametrize("each", [1, 3])
def test_towers_and_prefill_of_64_pictures_cost_the_operations_of_8(served, together, each):
    few, once = begun(served, BATCH, each)
    many, still_once = begun(served, 64, each)
    assert (once, still_once) == (1, 1)
    assert many <= MOST * few


def test_where_the_budget_holds_fewer_there_are_as_many_batches_as_that_takes(served, together):
    few, _ = begun(served, BATCH, 1)
    many, prefills = begun(served, 60, 1, pictures=BATCH)
    assert prefills == -(-60 // BATCH)
    assert many <= MOST * prefills * few
