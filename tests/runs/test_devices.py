"""Which number format a name stands for on a device."""

from __future__ import annotations

import pytest
import torch

from mgtool.errors import UsageError
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


def test_one_answer_to_device_numbers_and_processes(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.choose(workers=2) == devices.Devices(("cpu",), "float32", 2)
    assert devices.choose("cpu,cpu", "bfloat16").names == ("cpu", "cpu")
    planned = devices.choose("cuda:0,cuda:1", is_here=False)
    assert (planned.name, planned.dtype) == ("cuda:0,cuda:1", "bfloat16")
    assert planned.workers >= 1


@pytest.mark.parametrize(
    ("device", "is_here"),
    [
        ("cuda", True),
        ("cuda:7", True),
        *((name, is_here) for name in ("tpu", "cpu,cuda", "cpu,") for is_here in (0, 1)),
    ],
)
def test_a_device_that_is_not_there_is_named(monkeypatch, device: str, is_here: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"`device` {device}: "):
        devices.choose(device, is_here=is_here)


def test_a_gpu_that_is_not_there_is_told_by_its_number(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.torch_devices("cuda:0,cuda:1") == ("cuda:0", "cuda:1")
    assert devices.torch_devices("auto") == ("cuda",)
    with pytest.raises(UsageError, match="cuda:2"):
        devices.torch_devices("cuda:2")
