"""The last layer of a language model computes the tokens that are of use, and gives the keys and values of all."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from mgtool.inference.last_layer import last_layer_of

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES = {"llama": {}, "phi3": {}, "gemma2": {"head_dim": 8}, "qwen3": {"head_dim": 8}, "mixtral": {}}
TOKENS = 24


@pytest.fixture(params=FAMILIES)
def language_model(request):
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **TINY, **FAMILIES[request.param])
    return AutoModelForCausalLM.from_config(config).eval()


def asked(language_model, kept):
    """Logits at `kept`, and the keys and values of two rows of tokens."""
    tokens, cache = torch.arange(2 * TOKENS).view(2, TOKENS) % TINY["vocab_size"], DynamicCache()
    with torch.inference_mode():
        logits = language_model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=kept).logits
    return logits, [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


@pytest.mark.parametrize(
    ("columns", "kept"), [(slice(-1, None), 1), (torch.tensor([20, 23]), torch.tensor([20, 23]))], ids=["one", "two"]
)
def test_what_is_asked_for_is_that_of_the_whole_layer(language_model, columns, kept):
    whole, states = asked(language_model, kept)
    with last_layer_of(language_model, columns):
        logits, narrow = asked(language_model, kept)
    torch.testing.assert_close(logits, whole)
    torch.testing.assert_close(narrow, states)
    torch.testing.assert_close(asked(language_model, kept)[0], whole, rtol=0, atol=0)


def test_products_of_other_tokens_are_spared():
    language_model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY)).eval()
    layer = sum(
        p.numel() for name, p in language_model.model.layers[-1].named_parameters() if name.endswith("proj.weight")
    )
    attention = language_model.model.layers[-1].self_attn
    needed = attention.k_proj.weight.numel() + attention.v_proj.weight.numel()
    counts = []
    for columns in (slice(None), slice(-1, None)):
        with FlopCounterMode(display=False) as counter, last_layer_of(language_model, columns):
            asked(language_model, 1)
        counts.append(counter.get_total_flops())
    assert counts[0] - counts[1] == 2 * 2 * (TOKENS - 1) * (layer - needed)


def test_a_model_of_other_parts_is_left_as_it_is():
    language_model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4)
    ).eval()
    with last_layer_of(language_model, slice(-1, None)):
        assert not any("forward" in vars(module) for module in language_model.modules())
