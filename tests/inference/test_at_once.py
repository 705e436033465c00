"""Attention of all groups in one go: the tokens of attention group by group, in a constant number of operations."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from groups import Lengths, operations_script, picture
from tiny_models import tiny_config, tiny_llm, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from mgtool.inference import engine as engines
from mgtool.inference.engine import Engine
from mgtool.inference.prefix_store import Prefix
from mgtool.inference.rows import Rows
from mgtool.inference.scheduler import Group
from mgtool.model import IMAGE_TOKEN_ID, MGLlavaConfig, MGLlavaProcessor

TESTS = Path(__file__).parent.parent
SIZES = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
KINDS = {"llama": {}, "mistral": {"sliding_window": 12}, "qwen2": {}, "phi3": {}}


@pytest.fixture(scope="module")
def operations():
    return operations_script()


def test_a_step_costs_as_many_operations_for_64_pictures_as_for_one(operations):
    one, many = (operations.measure(pictures) for pictures in (1, 64))
    assert many["a_layer"] <= operations.MOST
    assert many["a_layer"] <= operations.GROWTH * one["a_layer"]
    assert many["rest"] <= operations.GROWTH * one["rest"]
    assert (one["waits"], many["waits"]) == (0, 0)


def logits_of(model, at_once, lengths, rows_each, steps=5):
    """Of rows behind prefixes of some lengths, the second and the fourth row leaving on the way."""
    rows = Rows(model.config.num_hidden_layers, model.device, at_once=at_once)
    found = []
    for number, length in enumerate(lengths):
        cache = DynamicCache()
        if length:
            model(input_ids=torch.arange(1, 1 + length)[None], past_key_values=cache, use_cache=True)
        prefix = Prefix.of(cache) if length else Prefix([], [], 0)
        token = torch.arange(rows_each) + number + 1
        if length:
            rows.add([prefix] * rows_each, None, token.new_zeros(rows_each), token)
        else:
            model(input_ids=token[:, None], past_key_values=cache, use_cache=True)
            rows.add([prefix] * rows_each, cache, token.new_ones(rows_each), token)
    for number in range(steps):
        rows.advance(model, lambda logits: (found.append(logits), logits.argmax(-1))[1])
        if number in (1, 3) and number < len(rows) - 1:
            rows.leave([number])
    return torch.cat(found)


@pytest.mark.parametrize("rows_each", [1, 3])
@pytest.mark.parametrize("lengths", [[9], [9, 0, 70, 5, 12], [0, 0], [*[0] * 9, 5, *[0] * 9]], ids=str)
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
@torch.no_grad()
def test_logits_are_those_of_attention_in_turn(kind, lengths, rows_each):
    own = {"gemma2": {"head_dim": 8, "sliding_window": 7, "attn_logit_softcapping": 5.0}}
    config = AutoConfig.for_model(kind, **(SIZES | (own | KINDS)[kind]))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    at_once, in_turn = (logits_of(model, way, lengths, rows_each) for way in (True, False))
    assert torch.allclose(at_once, in_turn, atol=1e-4)


@pytest.mark.parametrize("at_once", [True, False])
@torch.no_grad()
def test_prefixes_count_before_their_first_step(at_once):
    """Groups are admitted up to a number of tokens, many of them before rows decode."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES)).eval()
    rows = Rows(model.config.num_hidden_layers, model.device, at_once=at_once)
    for length in (9, 70):
        cache = DynamicCache()
        model(input_ids=torch.arange(1, 1 + length)[None], past_key_values=cache, use_cache=True)
        rows.add([Prefix.of(cache)] * 2, None, rows.lengths.new_zeros(2), torch.tensor([1, 2]))
    assert rows.held == 79
    rows.advance(model, lambda logits: logits.argmax(-1))
    assert rows.held >= 79 + 4


@pytest.mark.parametrize("batch_size", [4, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_prompts_alone(kind, batch_size, monkeypatch):
    base = tiny_config()
    text = tiny_llm(kind, **KINDS[kind])
    model = tiny_model(MGLlavaConfig(text_config=text, low_config=base.low_config, high_config=base.high_config))
    processor = MGLlavaProcessor(AutoTokenizer.from_pretrained(TESTS / "conformance" / "mg_llava" / "llm"))
    groups, count = [], 0
    for at, size in enumerate([3, 1, 5, 2, 4, 1]):
        shown = [IMAGE_TOKEN_ID] if at % 3 else []
        prompts = [[1, *shown, 30 + at, *range(40, 40 + number)] for number in range(1, size + 1)]
        groups.append(Group((str(at),), [picture(at)] if shown else [], range(count, count + size), prompts))
        count += size

    def answers(size):
        engine = Engine(model, processor, max_new_tokens=6, batch_size=size, sampler=Lengths())
        return {number: outcome.ids for number, outcome in engine.generate(groups)}

    alone = answers(1)
    monkeypatch.setattr(engines, "Rows", functools.partial(Rows, at_once=True))
    assert answers(batch_size) == alone


WAITS = ("tolist", "item", "cpu", "nonzero", "numpy", "__int__", "__float__", "__bool__")


def test_a_step_waits_for_the_device_once(monkeypatch):
    model = tiny_model(tiny_config())
    processor = MGLlavaProcessor(AutoTokenizer.from_pretrained(TESTS / "conformance" / "mg_llava" / "llm"))
    monkeypatch.setattr(engines, "Rows", functools.partial(Rows, at_once=True))
    engine = Engine(model, processor, max_new_tokens=50, batch_size=8)
    engine._ends = set()
    groups = [Group((str(at),), [picture(at)], [at], [[1, IMAGE_TOKEN_ID, 30 + at]]) for at in range(5)]
    steps = engine.steps(groups)
    for _ in range(8):
        next(steps)
    waits = []
    for name in WAITS:
        own = getattr(torch.Tensor, name)
        patched = lambda *args, name=name, own=own, **more: (waits.append(name), own(*args, **more))[1]  # noqa: E731
        monkeypatch.setattr(torch.Tensor, name, patched)
    next(steps)
    assert waits == ["tolist"]
    assert len(engine._rows) == 5
