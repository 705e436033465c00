"""Which number format a name stands for on a device."""

from __future__ import annotations

import pytest
import torch

from mgtool.runs import devices


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_named_format_is_taken(name: str, device: str) -> None:
    assert devices.number_format(name, device) == name


@pytest.mark.parametrize(("fast", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_asks_the_processor(monkeypatch, fast: bool, expected: str) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    assert devices.number_format("auto", "cpu") == expected
    assert devices.number_format(None, "cpu") == "float32"


@pytest.mark.parametrize(("fast", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_an_accelerator_computes_in_a_narrow_format(monkeypatch, fast: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: fast)
    assert devices.number_format(None, "cuda") == devices.number_format("auto", "cuda:1") == expected


def test_networks_compute_in_the_format_within_the_context() -> None:
    layer, values = torch.nn.Linear(8, 8), torch.ones(1, 8)
    with devices.computing_in("bfloat16", "cpu"):
        assert layer(values).dtype == torch.bfloat16
    with devices.computing_in("float32", "cpu"):
        assert layer(values).dtype == torch.float32
