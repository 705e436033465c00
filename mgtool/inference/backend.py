"""Which engine computes the answers: this project's own, or vLLM where it is installed and has the language model."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from mgtool.errors import MgtoolError, UsageError, require
from mgtool.inference.options import ChosenBackend, InferOptions, native_only
from mgtool.inputs.model_folders import is_foreign

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the sampler's states are this process's
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
}
_PREFERRED = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""What stands unless the user's environment says otherwise; stdout is for answers."""


def choose(options: InferOptions, device: str, *, is_here: bool = True) -> ChosenBackend:
    """What `backend` stands for.

    Args:
        options: as they were asked.
        device: as torch names it.
        is_here: False where nothing is computed, so that vLLM may be missing.

    Raises:
        UsageError: vLLM does not have the model.
        MissingExtraError: vLLM was asked for and is not installed.
    """
    if options.backend == "native":
        return "native"
    if options.backend == "vllm":
        if is_here:
            prepare_environment()
            require("vllm", what="`backend` vllm", extra="vllm")
            _refuse(lack_of(options), options)
        return "vllm"
    # Without a GPU this project's own engine is the faster one.
    can = is_here and device.startswith("cuda") and not native_only(options) and is_installed()
    return "vllm" if can and not _lacks(options) else "native"


def is_installed() -> bool:
    """Whether vLLM can be imported."""
    return importlib.util.find_spec("vllm") is not None


def prepare_environment() -> None:
    """What vLLM reads as it is imported: nothing is reported to anyone, and stdout stays free."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _PREFERRED.items():
        os.environ.setdefault(name, value)


def lack_of(options: InferOptions) -> str:
    """Why vLLM cannot answer for a model; empty where it can.

    Raises:
        InputError: the folder holds no model.
    """
    if is_foreign(options.model):
        return "it is handed what the towers of models of `mgtool import` see, and no other model's pictures"
    from mgtool.inference import vllm_model
    from mgtool.inference.cache_support import depends_on_length
    from mgtool.model import MGLlavaConfig

    config: Any = MGLlavaConfig.from_pretrained(options.model)
    name = vllm_model.architecture(config)
    if name not in vllm_model.known_architectures():
        return f"vLLM does not have {name}"
    text = config.text_config
    kinds = sorted(
        kind for kind in _rope_types(getattr(text, "rope_parameters", None) or {}) if depends_on_length(kind)
    )
    if kinds:
        return f"vLLM computes positions of kind {kinds[0]} otherwise"
    return ""


def _rope_types(parameters: dict[str, Any]) -> list[str]:
    nested = [one for one in parameters.values() if isinstance(one, dict)]
    return [str(one.get("rope_type")) for one in (parameters, *nested)]


def _lacks(options: InferOptions) -> bool:
    try:
        return bool(lack_of(options))
    except MgtoolError:
        return True  # which is said where the model is loaded


def _refuse(lack: str, options: InferOptions) -> None:
    if lack:
        raise UsageError("backend", f"vllm: `model` {options.model}: {lack}; `backend` native does")
