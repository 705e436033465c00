"""Rows that share, enter and leave: the tokens are those of prompts that are answered alone."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from groups import Lengths, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import new_tokens
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

from mgtool.errors import ItemError
from mgtool.inference import engine as engines
from mgtool.inference.attention import Prefix, View, shared_prefixes
from mgtool.inference.cache_support import LengthDependentRope
from mgtool.inference.engine import Engine
from mgtool.inference.prefix_support import shares_prefixes
from mgtool.inference.sampling import Greedy
from mgtool.inference.scheduler import Group
from mgtool.model import (
    IMAGE_TOKEN_ID,
    VIDEO_TOKEN_ID,
    ConvNextTowerConfig,
    MGLlavaConfig,
    MGLlavaForConditionalGeneration,
    MGLlavaProcessor,
)

TOKENIZER = Path(__file__).parent.parent / "conformance" / "mg_llava" / "llm"
SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 32.0, "original_max_position_embeddings": 24}
LONG |= {"short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 16.0, 32.0], "partial_rotary_factor": 1.0}
ALONE = {
    "gptj": {"rotary_dim": 4},
    "falcon": {},
    "bloom": {},
    "rwkv": {},
    "llama4_text": {"attention_chunk_size": 16},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1},
    "jamba": {"attn_layer_offset": 4},
    "phi3 longrope": {"rope_parameters": LONG, "original_max_position_embeddings": 24},
    "qwen2 dynamic": {
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
        "max_position_embeddings": 24,
    },
}
"""Whose attention no other can take the place of, with and without a cache that transformers can make."""
OTHERS = {"opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}}
LLMS = {"llama": {}, "mistral": {"sliding_window": 12}, "qwen2": {"tie_word_embeddings": True}, "phi3": {}}


@functools.cache
def built(kind):
    """A tiny model of random weights and its processor."""
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    low = AutoConfig.for_model("clip_vision_model", **tower, image_size=42, patch_size=14)
    high = ConvNextTowerConfig(architecture="test_convnext", image_size=96)
    text = AutoConfig.for_model(kind.split()[0], **(SIZES | (LLMS | ALONE | OTHERS)[kind]))
    torch.manual_seed(0)
    model = MGLlavaForConditionalGeneration(MGLlavaConfig(text_config=text, low_config=low, high_config=high)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return model, MGLlavaProcessor(AutoTokenizer.from_pretrained(TOKENIZER), image_size=96)


def answered(kind, groups, batch_size, budget=None):
    model, processor = built(kind)
    engine = Engine(model, processor, max_new_tokens=6, batch_size=batch_size, sampler=Lengths())
    engine.token_budget = budget or engine.token_budget
    return {number: outcome.ids for number, outcome in engine.generate(groups)}


words = st.lists(st.integers(3, 390), min_size=1, max_size=9)
asked = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=6)), min_size=1, max_size=3)


def grouped(drawn):
    """Groups of prompts, every one with a beginning of its own; the first group is text alone."""
    groups, count = [], 0
    for at, (start, ends) in enumerate(drawn):
        shown = [IMAGE_TOKEN_ID] if at else []
        prompts = [[1, *shown, *start, *end] for end in ends]
        groups.append(Group((str(at),), [picture(at)] if at else [], range(count, count + len(ends)), prompts))
        count += len(ends)
    return groups


@pytest.mark.parametrize("kind", LLMS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(drawn=asked, batch_size=st.integers(2, 9), budget=st.sampled_from([None, 60]))
def test_sharing_and_batching_change_no_token(kind, drawn, batch_size, budget):
    groups = grouped(drawn)
    assert answered(kind, groups, batch_size, budget) == answered(kind, groups, 1)


def test_alone_is_what_generate_gives():
    model, processor = built("llama")
    group = grouped([([5, 6], [[7, 8], [9]]), ([5], [[30, 31], [32, 33, 34], [35]])])[1]
    got = answered("llama", [group], 1)
    for number, ids in zip(group.numbers, group.prompts, strict=True):
        options = {"max_new_tokens": len(got[number]), "do_sample": False, "eos_token_id": 399, "pad_token_id": 0}
        plain = new_tokens(model, processor.collate([ids], group.pictures), **options)[0].tolist()
        assert got[number] == plain


@pytest.mark.parametrize("kind", ALONE)
def test_models_with_attention_of_their_own_see_pictures_and_prompts(kind):
    model, processor = built(kind)
    assert not shares_prefixes(model.language_model)
    groups = grouped([([5, 6], [[7, 8], [9]]), ([5], [[30, 31], [32, 33, 34], [35]])])
    got = answered(kind, groups, None)
    assert got == answered(kind, groups, 2)
    for group in groups:
        for number, ids in zip(group.numbers, group.prompts, strict=True):
            said = []
            for token in got[number]:
                logits = model(**processor.collate([[*ids, *said]], group.pictures), use_cache=False).logits
                assert logits[0, -1, token] >= logits[0, -1].max() - 1e-4
                said.append(token)


@pytest.mark.parametrize("kind", ["phi3 longrope", "qwen2 dynamic"])
def test_where_the_length_changes_all_positions_rows_are_as_if_alone(kind):
    """One row is beyond the limit from the start, others come there, and one never does."""
    model, processor = built(kind)
    rope = LengthDependentRope.of(model.language_model)
    prompts = [[1, VIDEO_TOKEN_ID, *range(5, 5 + length)] for length in (8, 1)]
    films = Group(("film",), [picture(1), picture(0)], [0, 1], prompts, is_video=True)
    texts = Group((), [], [2, 3, 4], [[1, *range(60, 60 + length)] for length in (3, 16, 20)])
    engine = Engine(model, processor, max_new_tokens=9, batch_size=5, sampler=Greedy())
    found = {number: outcome.ids for number, outcome in engine.generate([films, texts])}
    for group in (films, texts):
        for number, ids in zip(group.numbers, group.prompts, strict=True):
            said = []
            for token in found[number]:
                rope.reset()
                batch = processor.collate([[*ids, *said]], group.pictures, [2] if group.pictures else None)
                logits = model(**batch, use_cache=False).logits
                assert logits[0, -1, token] >= logits[0, -1].max() - 1e-4
                said.append(token)


@pytest.mark.parametrize("kind", LLMS)
def test_models_whose_attention_can_be_replaced_share_prefixes(kind):
    assert shares_prefixes(built(kind)[0].language_model)


@pytest.mark.parametrize("kind", LLMS)
def test_attention_over_a_prefix_is_attention_over_whole_rows(kind):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SIZES | LLMS[kind]))).eval()
    starts = [torch.randint(3, 390, (1, length)) for length in (9, 14)]
    own = torch.randint(3, 390, (5, 4))
    rows = [slice(0, 1), torch.tensor([1, 2, 4]), slice(3, 4)]
    with torch.inference_mode():
        prefixes = []
        for start in starts:
            cache = DynamicCache()
            model(input_ids=start, past_key_values=cache, use_cache=True)
            prefixes.append(Prefix.of(cache))
        prefixes.append(Prefix([], [], 0))
        lengths = torch.zeros(5, 1, dtype=torch.int64)
        for places, prefix in zip(rows, prefixes, strict=True):
            lengths[places] = prefix.length
        positions = lengths + torch.arange(4)
        view = View(list(zip(rows, prefixes, strict=True)), positions, positions)
        with shared_prefixes(model):
            options = {"past_key_values": DynamicCache(), "use_cache": True}
            found = model(input_ids=own, position_ids=positions, view=view, **options).logits
        for row, start in enumerate([starts[0], starts[1], starts[1], own[:1, :0], starts[1]]):
            whole = model(input_ids=torch.cat([start, own[row : row + 1]], dim=1)).logits[0, -4:]
            assert (found[row] - whole).abs().max() <= 1e-4 * whole.abs().max()


def test_what_is_shared_is_in_memory_once():
    model, processor = built("llama")
    prompts = [[1, IMAGE_TOKEN_ID, *range(5, 50), 60 + end] for end in range(12)]
    engine = Engine(model, processor, max_new_tokens=4, batch_size=12, sampler=Lengths())
    group = Group(("one",), [picture(2)], range(12), prompts)
    held = [engine._rows.held for _ in engine.generate([group])]
    whole = 9 + 3 + len(prompts[0]) - 1
    assert whole < max(held) <= whole + 12 * 4
    assert len(engine._rows) == 0


def test_memory_for_few_tokens_is_few_rows_at_once():
    groups = grouped([([5, 6], [[7 + end] for end in range(9)])])
    rows = []
    handle = built("llama")[0].language_model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["position_ids"])) if "view" in kwargs else None,
        with_kwargs=True,
    )
    assert answered("llama", groups, 9, budget=24) == answered("llama", groups, 9)
    handle.remove()
    assert max(rows[: len(rows) // 2]) < 9 == max(rows)


@pytest.mark.parametrize(("is_ready", "ended_before"), [(False, 4), (True, 0)])
def test_rows_do_not_wait_for_an_input_that_has_nothing_yet(is_ready, ended_before):
    model, processor = built("llama")
    first, second = grouped([([5, 6], [[7 + end] for end in range(4)]), ([8], [[9], [10]])])
    ended, drawn = [], []

    def supply():
        yield first
        drawn.append(len(ended))
        yield second

    engine = Engine(model, processor, max_new_tokens=4, batch_size=8)
    for number, _ in engine.generate(supply(), lambda: is_ready):
        ended.append(number)
    assert drawn == [ended_before]
    assert sorted(ended) == list(range(6))


@pytest.mark.parametrize(("seconds", "steps"), [(60.0, 3), (0.0, 3 + 5)])
def test_rows_wait_for_others_that_are_ready_and_only_so_long(seconds, steps, monkeypatch):
    monkeypatch.setattr(engines, "FILL_S", seconds)
    engine = Engine(*built("llama"), max_new_tokens=4)
    engine._ends = set()
    found = dict(engine.generate(grouped([([5], [[7 + end]]) for end in range(6)])))
    assert [len(found[number].ids) for number in range(6)] == [4] * 6
    assert engine.times.steps == steps


def test_answers_that_are_ready_are_given_before_others_begin():
    engine = Engine(*built("llama"), max_new_tokens=1)
    steps = engine.steps(grouped([([5], [[7 + end]]) for end in range(6)]))
    assert [len(outcomes) for outcomes in steps] == [1] * 6


def test_a_token_that_the_embedding_lacks_fails_its_prompt_alone():
    model, processor = built("llama")
    prompts = [[1, 5, 6], [1, 5, 400], [1, 5, 7]]
    found = dict(Engine(model, processor, max_new_tokens=2).generate([Group((), [], range(3), prompts)]))
    assert [isinstance(found[number], ItemError) for number in range(3)] == [False, True, False]
    assert found[1].reason == "unsupported"
    assert "token 400" in found[1].detail
    assert "embedding 400 rows" in found[1].detail


@pytest.mark.parametrize(("dtype", "said"), [("float32", "layers.0.mlp.down_proj.weight"), ("float16", "`dtype`")])
def test_numbers_that_are_not_finite_have_a_cause(dtype, said):
    model, processor = copy.deepcopy(built("llama"))
    model.to(getattr(torch, dtype))
    with torch.no_grad():
        model.language_model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    [(_, found)] = Engine(model, processor, max_new_tokens=2).generate([Group((), [], [0], [[1, 5, 6]])])
    assert found.reason == "model_error"
    assert said in found.detail
    assert ("float32 may not" in found.detail) is (dtype == "float16")


@pytest.mark.parametrize(("kind", "limit"), [("llama", "of the text alone"), ("opt", "with those of pictures")])
def test_questions_about_videos_have_a_limit(kind, limit):
    """A table of positions has no row for what is beyond it, frames or not."""
    model, processor = copy.deepcopy(built(kind))
    model.config.text_config.max_position_embeddings = model.language_model.config.max_position_embeddings = 24
    prompts = [[1, VIDEO_TOKEN_ID, *range(5, 5 + length)] for length in (3, 40)]
    group = Group(("film",), [picture(1), picture(0)], [0, 1], prompts, is_video=True)
    found = dict(Engine(model, processor, max_new_tokens=2).generate([group]))
    assert isinstance(found[0], ItemError) is (kind == "opt")
    assert found[1].reason == "prompt_too_long"
    assert limit in found[1].detail
