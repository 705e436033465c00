"""The model of a run: on its device, over several, or in fewer bits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch

from mgtool.errors import UsageError, require
from mgtool.files.checkpoints import explained
from mgtool.inference.plan import InferencePlan
from mgtool.inputs.model_folders import check_model, is_foreign, local_folder


def load_processor(plan: InferencePlan) -> Any:
    """The model's processor.

    Raises:
        InputError: the folder holds no model, or no tokenizer that can be loaded.
    """
    from mgtool.inference import transformers_model
    from mgtool.model import MGLlavaProcessor

    check_model(plan.model, takes_foreign=True)
    if is_foreign(plan.model):
        return transformers_model.load_processor(local_folder(plan.model, with_weights=False))
    with explained(f"`model` {plan.model}: its tokenizer or processor cannot be loaded"):
        return MGLlavaProcessor.from_pretrained(plan.model)


def load_config(plan: InferencePlan) -> Any:
    """The model's configuration, without its weights.

    Raises:
        InputError: the folder holds no model.
    """
    from mgtool.inference import transformers_model
    from mgtool.model import MGLlavaConfig

    if is_foreign(plan.model):
        return transformers_model.load_config(local_folder(plan.model, with_weights=False))
    with explained(f"`model` {plan.model}: its configuration cannot be read"):
        return MGLlavaConfig.from_pretrained(plan.model)


_kept: ContextVar[list[tuple[Any, Any]] | None] = ContextVar("_kept", default=None)


@contextlib.contextmanager
def kept_model(kept: list[tuple[Any, Any]] | None = None) -> Iterator[None]:
    """Until the end of the block, a model that is loaded serves whoever asks for the same one again.

    Args:
        kept: what keeps it, for several blocks.
    """
    before = _kept.get()
    token = _kept.set(kept if kept is not None else [] if before is None else before)
    try:
        yield
    finally:
        _kept.reset(token)


def load_model(plan: InferencePlan) -> Any:
    """The model in evaluation mode; errors as of `_load_model`."""
    kept = _kept.get()
    if kept is None:
        return _load_model(plan)
    wanted = _loading_key(plan)
    if not kept or kept[0][0] != wanted:
        kept.clear()
        kept.append((wanted, _load_model(plan)))
    return kept[0][1]


def _loading_key(plan: InferencePlan) -> Any:
    """What a loaded model depends on."""
    given = plan.options
    own = (plan.model, plan.device, plan.dtype, given.quantize, given.device_map, plan.tensor_parallel, plan.backend)
    return own if plan.backend == "native" else (*own, given.batch_size)


def _load_model(plan: InferencePlan) -> Any:
    """The model in evaluation mode.

    Raises:
        InputError: the folder holds no model.
        MissingExtraError: fewer bits need a library that is not there.
    """
    from transformers.utils.logging import disable_progress_bar

    from mgtool.inference import transformers_model
    from mgtool.model import MGLlavaForConditionalGeneration

    check_model(plan.model, takes_foreign=True)
    disable_progress_bar()
    if plan.backend == "vllm":
        from mgtool.inference.vllm_model import load_vllm

        return load_vllm(plan, load_processor(plan))
    kwargs = _loading_options(plan)
    with _narrowed(plan.options.quantize):
        if is_foreign(plan.model):
            model = transformers_model.load_model(local_folder(plan.model), **kwargs)
        else:
            broken = explained(f"`model` {plan.model} cannot be loaded")
            with contextlib.nullcontext() if plan.options.quantize else broken:
                model = MGLlavaForConditionalGeneration.from_pretrained(plan.model, **kwargs)
    is_placed = "device_map" in kwargs or plan.tensor_parallel > 1
    return (model if is_placed else model.to(plan.device)).eval()


@contextlib.contextmanager
def _narrowed(quantize: str | None) -> Iterator[None]:
    """What goes wrong while narrow weights are loaded is named by the option that asked for them."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if not quantize:
            raise
        reason = str(error).splitlines()[0]
        raise UsageError("quantize", f"{quantize} does not work for this model and device: {reason}") from error


def _loading_options(plan: InferencePlan) -> dict[str, Any]:
    """What `from_pretrained` is given."""
    from transformers.distributed import DistributedConfig

    kwargs: dict[str, Any] = {"dtype": getattr(torch, plan.dtype)}
    if plan.options.quantize:
        kwargs |= {"quantization_config": _quantization(plan), "device_map": {"": plan.device}}
    if plan.options.device_map is not None:
        kwargs["device_map"] = plan.options.device_map
    if plan.tensor_parallel > 1:
        kwargs["distributed_config"] = DistributedConfig(tp_size=plan.tensor_parallel)
    return kwargs


def _quantization(plan: InferencePlan) -> Any:
    """torchao for 8 bits and bitsandbytes for 4: both run on CPUs, too."""
    import transformers

    option = f"`quantize` {plan.options.quantize}"
    if plan.options.quantize == "8bit":
        torchao = require("torchao.quantization", what=option, extra="quantize")
        return transformers.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    require("bitsandbytes", what=option, extra="quantize")
    compute = getattr(torch, plan.dtype)
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
