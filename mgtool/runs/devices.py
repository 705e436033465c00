"""In which number format models compute."""

from __future__ import annotations

from typing import Any

FORMATS = ("auto", "float32", "bfloat16", "float16")


def choose(name: str | None, device: str) -> str:
    """The format that a name stands for on a device (``cpu``, ``cuda``, ``cuda:1``, ...).

    Args:
        name: one of `FORMATS`; ``auto`` is the narrow one that the device is fast at, else float32; None is float32
            on a CPU and ``auto`` elsewhere.
    """
    import torch

    on_cpu = device.startswith("cpu")
    if name is None:
        name = "float32" if on_cpu else "auto"
    if name != "auto":
        return name
    if on_cpu:
        return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def computing_in(dtype: str, device: str) -> Any:
    """A context in which float32 weights compute in `dtype` where that does no harm, as torch's autocast sees it."""
    import torch

    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, dtype), enabled=dtype != "float32")
