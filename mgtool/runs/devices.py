"""Which devices a run computes on, in which numbers, and with how many processes beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mgtool.errors import UsageError
from mgtool.runs.workers import default_workers

Dtype = Literal["float32", "bfloat16", "float16", "auto"]
FORMATS: tuple[str, ...] = get_args(Dtype)
MOST_WORKERS = 8
"""For one device by default: 300 pictures a second, more than any asks for."""
_KINDS = "give cpu, cuda, cuda:1, auto, or several of one kind, as in cuda:0,cuda:1"


@dataclass(frozen=True)
class Devices:
    """Where and how models compute.

    Attributes:
        names: as torch has them, a process each.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        workers: processes that prepare pictures, for each device; with 0, threads.
    """

    names: tuple[str, ...]
    dtype: str
    workers: int

    @property
    def name(self) -> str:
        """All names, with commas between them."""
        return ",".join(self.names)


def choose(
    device: str = "auto",
    dtype: str | None = None,
    *,
    workers: int | None = None,
    parts: int = 1,
    is_here: bool = True,
) -> Devices:
    """The one answer to which devices, which numbers and how many processes.

    Args:
        device: as torch names it, ``auto`` for the first accelerator there is, or else the CPU; several of one kind
            with commas between them.
        dtype: as of `number_format`.
        workers: for each device; None for as many as the cores are good for.
        parts: devices, with a process each, that a model is split over.
        is_here: False where the run is only planned: a CUDA device that is not in this machine is one of today's.

    Raises:
        UsageError: devices of several kinds, or that this machine does not have.
    """
    names = torch_devices(device, is_here=is_here)
    elsewhere = "bfloat16" if dtype in (None, "auto") else str(dtype)
    numbers = number_format(dtype, names[0]) if is_here or _is_here(names[0]) else elsewhere
    return Devices(names, numbers, workers_for(workers, names * parts, default_workers()))


def torch_devices(device: str, *, is_here: bool = True) -> tuple[str, ...]:
    """Torch's names of what `device` stands for, one for each process; arguments and errors as of `choose`."""
    import torch

    if device == "auto":
        return ("cuda" if torch.cuda.is_available() else "cpu",)
    names = tuple(device.split(","))
    kinds = {name.partition(":")[0] for name in names}
    if len(kinds) > 1 or "" in kinds:
        raise UsageError("device", f"{device}: {_KINDS}")
    if (is_here or kinds != {"cuda"}) and not all(map(_is_here, names)):
        raise UsageError("device", f"{device}: this machine does not have it; try `device` cpu")
    return names


def _is_here(name: str) -> bool:
    """Whether torch can use a device; asking costs no memory of a GPU."""
    import torch

    kind, _, index = name.partition(":")
    if kind == "cuda" and (not index or index.isdecimal()):
        return torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def number_format(name: str | None, device: str) -> str:
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
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def computing_in(dtype: str, device: str) -> Any:
    """A context in which float32 weights compute in `dtype` where that does no harm, as torch's autocast sees it."""
    import torch

    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, dtype), enabled=dtype != "float32")


def workers_for(given: int | None, devices: Sequence[str], cores: int) -> int:
    """Processes that prepare pictures for each device; on a CPU the model itself uses the cores.

    >>> workers_for(None, ["cpu"], 16), workers_for(None, ["cuda"], 16), workers_for(None, ["cuda:0", "cuda:1"], 8)
    (0, 8, 3)
    """
    if given is not None:
        return given
    return 0 if devices[0].startswith("cpu") else max(1, min(MOST_WORKERS, (cores - 1) // len(devices)))


def onnx_providers(device: str) -> list[Any]:
    """What onnxruntime computes with on a device: the CPU, and before it a GPU where one is meant.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` is a GPU where this onnxruntime knows one.

    Raises:
        UsageError: another device, or one that this onnxruntime does not know.
    """
    import onnxruntime

    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if match is None:
        raise UsageError("device", f"{device}: give auto, cpu, cuda or cuda:N for a detector that ships with mgtool")
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not has_gpu:
        raise UsageError("device", f"{device}: this onnxruntime knows only the CPU; pip install onnxruntime-gpu")
    gpu = [("CUDAExecutionProvider", {"device_id": match[1] or "0"})] if has_gpu and device != "cpu" else []
    return [*gpu, "CPUExecutionProvider"]
