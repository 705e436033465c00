"""A model whose pictures this project sees and whose language model vLLM runs, from one folder on disk."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from mgtool.errors import MgtoolError
from mgtool.inference.backend import prepare_environment
from mgtool.inference.memory import MEMORY_SHARE, token_bytes
from mgtool.inference.native_model import NativeModel
from mgtool.inference.plan import InferencePlan
from mgtool.inference.scheduler import Group
from mgtool.media.videos import FRAMES
from mgtool.model import MGLlavaConfig, MGLlavaForConditionalGeneration
from mgtool.model.splice import lay_out

_LAYERS = re.compile(r"\.(layers|h|blocks)\.\d+\.")
_LANGUAGE_MODEL = "language_model."
_OBJECTS = 100
"""Boxes of a frame that there is room for beyond the positions that a language model names, as the engine allows."""
_TOKENS_KEPT = 1 << 14
"""Tokens whose keys and values vLLM keeps on a CPU, where there is memory."""
_TOWERS_SHARE = 0.15
"""Of a GPU's free memory, for what the towers compute."""
_FORMAT = "mgtool"
Chooser = Callable[[Tensor, Sequence[int]], Tensor]
"""(R, vocabulary) float32 and the R rows' numbers -> the same, of which each row's largest is its next token."""


def architecture(config: MGLlavaConfig) -> str:
    """The name by which vLLM would have the language model of a model's configuration."""
    own = config.text_config
    named = getattr(own, "architectures", None) or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(own.model_type)]
    return str(named[0] or own.model_type)


def known_architectures() -> set[str]:
    """Those that vLLM has."""
    prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vllm import ModelRegistry

    return set(ModelRegistry.get_supported_archs())


class _Towers(MGLlavaForConditionalGeneration):
    """All but the layers of the language model, whose embeddings are here."""

    _keys_to_ignore_on_load_unexpected = (_LAYERS.pattern,)


class VllmModel(NativeModel):
    """A `ServedModel` without language model layers, and the vLLM engine that has them.

    Args:
        model: towers and embeddings, in evaluation mode, on their device.
        processor: the model's.
        text_config: the language model's.
        engine: vLLM's, see `started`.
    """

    def __init__(self, model: Any, processor: Any, text_config: Any, engine: Started) -> None:
        super().__init__(model, processor)
        self._text_config, self.started = text_config, engine
        # vLLM takes embeddings from the CPU
        self._embed = model.get_input_embeddings().cpu()

    @property
    def text_config(self) -> Any:
        """The language model's configuration."""
        return self._text_config

    def see_all(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """As `NativeModel.see_all`, on the CPU."""
        return [[visual.cpu() for visual in visuals] for visuals in super().see_all(groups)]

    @property
    def device(self) -> torch.device:
        """Of the towers."""
        return next(self.model.projector.parameters()).device

    def prompt(self, ids: Sequence[int], group: Group, visuals: Sequence[Tensor]) -> dict[str, Any]:
        """What vLLM is given for a prompt of a group."""
        if not visuals:
            return {"prompt_token_ids": list(ids)}
        laid_out = lay_out([ids], visuals, self._embed, device=torch.device("cpu"))
        return {"prompt_embeds": laid_out.inputs_embeds[0].to(self.dtype)}


class Started:
    """A vLLM engine in this process whose next tokens a caller chooses.

    Attributes:
        engine: vLLM's `LLMEngine`.
        choose: as `Chooser`; whoever uses the engine sets it.
    """

    choose: Chooser

    def __init__(self, **arguments: Any) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from mgtool.inference.vllm_sampling import make_processor

        self.engine: Any = None
        known = {"logits_processors": [make_processor(self)], "seed": 0, "enable_prefix_caching": True}
        try:
            # A row whose prompt is computed in parts would be asked for tokens that are thrown away.
            self.engine = LLMEngine.from_engine_args(
                EngineArgs(
                    **known,
                    **arguments,
                    async_scheduling=False,
                    enable_chunked_prefill=False,
                    disable_log_stats=True,
                    use_tqdm_on_load=False,
                )
            )
        except (RuntimeError, ValueError, TypeError, KeyError, OSError, AssertionError, NotImplementedError) as error:
            raise not_started(error) from error


def not_started(error: Exception) -> MgtoolError:
    """One line on why vLLM does not have a model in memory, and the way out."""
    text = str(error) or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError) or re.search(r"memory|KV cache", text):
        out = "give a smaller `batch_size` or `dtype`, or `backend` native"
        return MgtoolError(f"`backend` vllm: there is too little memory: {_line(text)}; {out}")
    return MgtoolError(f"`backend` vllm: vLLM cannot run this model: {_line(text)}; `backend` native may")


def _line(text: str) -> str:
    return " ".join(text.split())[:200].rstrip(".")


def load_vllm(plan: InferencePlan, processor: Any) -> VllmModel:
    """A plan's model.

    Raises:
        CheckpointError: weights that do not fit the model.
        MgtoolError: vLLM cannot run it, or not in this memory.
    """
    prepare_environment()
    config: Any = MGLlavaConfig.from_pretrained(plan.model)
    towers: Any = _load_towers(plan)
    with tempfile.TemporaryDirectory(prefix="mgtool-vllm-") as folder:
        limit = _write_config(config, Path(folder))
        _register_loader(plan.model)
        started = Started(
            model=folder, load_format=_FORMAT, skip_tokenizer_init=True, enable_prompt_embeds=True,
            **_settings(plan, config.text_config, limit),
        )  # fmt: skip
    return VllmModel(towers, processor, config.text_config, started)


def _load_towers(plan: InferencePlan) -> Any:
    config: Any = MGLlavaConfig.from_pretrained(plan.model)
    config.text_config.num_hidden_layers = 0
    if getattr(config.text_config, "layer_types", None):
        config.text_config.layer_types = []
    model = _Towers.from_pretrained(
        plan.model, config=config, dtype=getattr(torch, plan.dtype), trust_remote_code=False
    )
    return model.to(plan.device).eval()


def _settings(plan: InferencePlan, text_config: Any, longest: int | None) -> dict[str, Any]:
    """Arguments of the engine that depend on the device and on how much there is to compute."""
    from mgtool.inference.engine import MOST_ROWS

    dtype, on_cpu = getattr(torch, plan.dtype), plan.device.startswith("cpu")
    rows = plan.options.batch_size or MOST_ROWS.get(plan.device.partition(":")[0], 64)
    length = {} if longest is None else {"max_model_len": longest, "max_num_batched_tokens": max(longest, 1 << 13)}
    found: dict[str, Any] = {"dtype": plan.dtype, "max_num_seqs": rows, "generation_config": "vllm", **length}
    if on_cpu:
        needed = token_bytes(text_config, dtype) * max(_TOKENS_KEPT, 2 * (longest or 0))
        free = int(psutil.virtual_memory().available * MEMORY_SHARE)
        return {**found, "enforce_eager": True, "kv_cache_memory_bytes": min(needed, free)}
    free, total = torch.cuda.mem_get_info(plan.device)
    return {**found, "gpu_memory_utilization": round(free / total * (1 - _TOWERS_SHARE), 3)}


def _write_config(config: Any, folder: Path) -> int | None:
    """The language model's configuration for vLLM, with positions for a video; gives their number."""
    text, longest = config.text_config, getattr(config.text_config, "max_position_embeddings", None)
    about = type(text).from_dict(text.to_dict())
    about.architectures = [architecture(config)]
    if longest is not None:
        # As the engine allows them: rotary positions go on beyond what a model names.
        longest += FRAMES * (config.low_grid**2 + config.boxes * _OBJECTS)
        about.max_position_embeddings = longest
    about.save_pretrained(folder)
    return longest


def _register_loader(folder: Path) -> None:
    """Let vLLM read the language model's weights where they are, under the names that it knows."""
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    class Loader(DefaultModelLoader):
        def get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Tensor]]:
            return _weights(folder)

    register_model_loader(_FORMAT)(Loader)


def _weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                if name.startswith(_LANGUAGE_MODEL):
                    yield name.removeprefix(_LANGUAGE_MODEL), opened.get_tensor(name)
