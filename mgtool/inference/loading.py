"""The model of a run: on its device, over several, or in fewer bits."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch

from mgtool.errors import UsageError, require
from mgtool.inference.options import Request
from mgtool.inputs.model_folders import check_model


def load_processor(request: Request) -> Any:
    """The model's processor.

    Raises:
        InputError: the folder holds no model.
    """
    from mgtool.model import MGLlavaProcessor

    check_model(request.model)
    return MGLlavaProcessor.from_pretrained(request.model)


def load_model(request: Request) -> Any:
    """The model in evaluation mode.

    Raises:
        InputError: the folder holds no model.
        MissingExtraError: fewer bits need a library that is not there.
    """
    from transformers.distributed import DistributedConfig
    from transformers.utils.logging import disable_progress_bar

    from mgtool.model import MGLlavaForConditionalGeneration

    check_model(request.model)
    disable_progress_bar()
    kwargs: dict[str, Any] = {"dtype": getattr(torch, request.dtype)}
    if request.quantize:
        kwargs |= {"quantization_config": _quantization(request), "device_map": {"": request.device}}
    if request.device_map is not None:
        kwargs["device_map"] = request.device_map
    if request.tensor_parallel > 1:
        kwargs["distributed_config"] = DistributedConfig(tp_size=request.tensor_parallel)
    try:
        model = MGLlavaForConditionalGeneration.from_pretrained(request.model, **kwargs)
    except (ValueError, RuntimeError) as error:
        if not request.quantize:
            raise
        reason = str(error).splitlines()[0]
        raise UsageError("quantize", f"{request.quantize} does not work for this model and device: {reason}") from error
    is_placed = "device_map" in kwargs or request.tensor_parallel > 1
    return (model if is_placed else model.to(request.device)).eval()


def _quantization(request: Request) -> Any:
    """torchao for 8 bits and bitsandbytes for 4: both run on CPUs, too."""
    import transformers

    option = f"`quantize` {request.quantize}"
    if request.quantize == "8bit":
        torchao = require("torchao.quantization", what=option, extra="quantize")
        return transformers.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of a faster kernel that is not there
    require("bitsandbytes", what=option, extra="quantize")
    compute = getattr(torch, request.dtype)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Torch's deterministic algorithms, where they are wanted."""
    if not wanted:
        yield
        return
    # cuBLAS reads this when it begins; without it torch refuses to go on.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
