"""Linear layers by oneDNN, while an engine computes on a CPU."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path

import pytest
import torch
from groups import Lengths, picture
from timm.layers import Mlp
from tiny_models import tiny_config, tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer

from mgtool.inference import cpu_layers
from mgtool.inference.cpu_layers import CpuLayers
from mgtool.inference.engine import Engine
from mgtool.inference.scheduler import Group
from mgtool.model import IMAGE_TOKEN_ID, MGLlavaProcessor

TESTS = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="measured on these alone")


class Counted(TorchDispatchMode):
    """How often each operation is called."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket._qualified_op_name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def model():
    return tiny_model(tiny_config())


def answered(model):
    """Token ids by prompt, and the operations that they took."""
    processor = MGLlavaProcessor(AutoTokenizer.from_pretrained(TESTS / "conformance" / "mg_llava" / "llm"))
    groups = [Group((str(at),), [picture(at)], [at], [[1, IMAGE_TOKEN_ID, 30 + at]]) for at in range(3)]
    engine = Engine(model, processor, max_new_tokens=6, sampler=Lengths())
    with Counted() as counted:
        outcomes = dict(engine.generate(groups))
    return {number: outcome.ids for number, outcome in outcomes.items()}, counted.calls


def linear(model):
    return [one for one in model.modules() if isinstance(one, nn.Linear)]


def test_the_language_model_s_products_are_one_operation_each_with_the_same_answers(model, monkeypatch):
    found, calls = answered(model)
    monkeypatch.setattr(cpu_layers, "_is_served", lambda: False)
    wanted, plain = answered(model)
    assert found == wanted
    assert plain["mkldnn::_linear_pointwise"] == 0
    steps = calls["mkldnn::_linear_pointwise"] // len(linear(model.language_model))
    assert steps >= 6
    assert calls["mkldnn::_reorder_linear_weight"] == 0  # not in a step


def test_a_perceptron_has_its_gelu_inside_the_product():
    torch.manual_seed(0)
    tower = nn.Sequential(Mlp(8, 32), Mlp(8, 32, norm_layer=nn.LayerNorm), Mlp(8, 32, act_layer=nn.ReLU)).eval()
    tower.get_output_embeddings = lambda: None
    layers, inputs = CpuLayers(tower, nn.Module()), torch.randn(2, 3, 5, 8)
    with torch.inference_mode():
        wanted = tower(inputs)
        with layers.used(), Counted() as counted:
            found = tower(inputs)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert (counted.calls["mkldnn::_linear_pointwise"], counted.calls["aten::gelu"]) == (2, 1)


def test_layers_are_as_before_behind_the_block_also_where_one_stands_in_another(model):
    layers = CpuLayers(model, model.language_model)
    assert len(layers) >= len(linear(model.language_model))
    with layers.used():
        with layers.used():
            pass
        assert all("forward" in vars(one) for one in linear(model.language_model))
    assert not any("forward" in vars(one) for one in model.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_left_alone(model, dtype):
    assert len(CpuLayers(model.to(dtype), model.language_model)) == 0


def test_no_second_copy_is_made_where_memory_is_short(model, monkeypatch):
    whole = len(CpuLayers(model, model.language_model))
    monkeypatch.setattr(cpu_layers, "PACKED_SHARE", 0)
    assert len(CpuLayers(model, model.language_model)) == whole - len(linear(model.language_model))


def test_a_layer_that_someone_changed_stays_as_it_is(model):
    layer = model.language_model.model.layers[0].mlp.down_proj
    layer.forward = lambda inputs: torch.zeros(*inputs.shape[:-1], layer.out_features)
    with torch.inference_mode(), CpuLayers(model, model.language_model).used():
        assert not layer(torch.ones(1, layer.in_features)).any()
