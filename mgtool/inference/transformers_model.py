"""Any transformers image-text-to-text model as the engine's model; no code but that of transformers itself."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    DynamicCache,
    GenerationConfig,
)

from mgtool.errors import CheckpointError
from mgtool.files.checkpoints import check_folder, explained
from mgtool.files.model_size import within_weights
from mgtool.files.processor_sizes import check_sizes
from mgtool.inference.attention import Prefix
from mgtool.inference.cache_support import is_same
from mgtool.inference.memory import is_out_of_memory
from mgtool.inference.penalties import Penalties
from mgtool.inference.prefill import Prefill
from mgtool.inference.rows import Rows
from mgtool.inference.scheduler import Group
from mgtool.inference.served import Beginning, OnDevice
from mgtool.inference.transformers_processor import Inputs, TransformersProcessor
from mgtool.model.config import MGLlavaConfig
from mgtool.model.loading import refuse_misfits
from mgtool.model.splice import Spliced, lay_out

_PROBED = ("<image>\nWhat is in the picture?", "<image>\nWhat colour is it, and why?")
"""Two questions with which it is found out whether a model's prompts may share a picture."""
_SIDE = 64
_AUTO = AutoModelForImageTextToText, AutoModelForMultimodalLM
"""Models of pictures and text, and those of sound, too."""
_BROKEN = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError)


_TWO_STEPS = GenerationConfig(
    max_new_tokens=2, min_new_tokens=2, do_sample=False, output_logits=True, return_dict_in_generate=True
)


class TextModel(OnDevice):
    """The language model behind a model's vision, asked by way of the whole, so that logits are the whole model's.

    Attributes:
        config: of the decoder; changing its attention changes the decoder's alone.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        decoder = model.get_decoder()
        self.decoder: Any = model if decoder is None else decoder
        self.config = self.decoder.config
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def __call__(self, *, logits_to_keep: int | None = None, **inputs: Any) -> Any:
        """The whole model's output."""
        kept = {} if logits_to_keep is None or not self._keeps else {"logits_to_keep": logits_to_keep}
        return self.model(**inputs, **kept)

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The decoder's."""
        yield from self.decoder.named_modules()


class TransformersModel(OnDevice):
    """A `ServedModel`.

    Args:
        model: as `AutoModelForImageTextToText` gives it, in evaluation mode, on its device.
        processor: the model's.
    """

    vision_tokens = picture_bytes = 0

    def __init__(self, model: Any, processor: TransformersProcessor) -> None:
        self.model, self.processor = model, processor
        self.language_model = TextModel(model)
        self._shares: bool | None = None
        if processor.generation is not None:
            self.penalties = Penalties(model, processor.generation, processor.eos_token_ids)

    @property
    def text_config(self) -> Any:
        """The language model's configuration."""
        return self.language_model.config

    def shares_prefixes(self) -> bool:
        """Whether answers about one picture over a shared prefix are those of `generate`; tried once, with two."""
        if self._shares is None:
            self._shares = self._agrees()
        return self._shares

    def see(self, group: Group) -> list[Tensor]:
        """Nothing: pictures are seen where a prefix begins."""
        return []

    def see_all(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """Nothing, of each."""
        return [self.see(group) for group in groups]

    def splice(self, prompts: Sequence[Sequence[int]], visuals: Sequence[Tensor]) -> Spliced:
        """Ends of prompts, which are text alone."""
        return lay_out(prompts, visuals, self.get_input_embeddings(), device=self.device)

    def begin(self, beginnings: Sequence[Beginning]) -> tuple[list[Prefix], Tensor]:
        """As `ServedModel.begin`, one by one: each kind of model has its own way to take pictures."""
        begun = [self._begin(one.group, one.ids) for one in beginnings]
        return [prefix for prefix, _ in begun], torch.cat([logits for _, logits in begun])

    @torch.inference_mode()
    def _begin(self, group: Group, ids: Sequence[int]) -> tuple[Prefix, Tensor]:
        """The model is given what `generate` gives it first."""
        cache = DynamicCache()
        positions, following = self._positions(group, ids)
        given = {**self.inputs(group, ids), "past_key_values": cache, "use_cache": True}
        prepared = self.model.prepare_inputs_for_generation(position_ids=positions, is_first_iteration=True, **given)
        logits = self.language_model(logits_to_keep=1, **prepared).logits[:, -1].float()
        return Prefix.of(cache, following - len(ids)), logits

    def _positions(self, group: Group, ids: Sequence[int]) -> tuple[Tensor, int]:
        """Positions of a prompt's beginning, (1, T) or (dimensions, 1, T), and that of the text behind it."""
        given = self.inputs(group, ids, more=1)
        tokens = given.pop("input_ids")
        positions: Tensor = self.model._prepare_position_ids_for_generation(tokens, given)
        rotary = positions[-3:] if positions.ndim == 3 else positions
        is_whole = tokens.shape[1] == len(ids)
        return positions[..., : len(ids)], int(rotary[..., -1].max()) + is_whole

    def inputs(self, group: Group, ids: Sequence[int], more: int = 0) -> Inputs:
        """What the model is given for a prompt of a group, or for its beginning, on the device and in its precision.

        Args:
            group: whose prompts begin so.
            ids: with which.
            more: tokens behind them, where there are so many.
        """
        [prepared] = group.pictures
        found: Inputs = prepared.begin(ids, more)  # type: ignore[attr-defined]
        return {name: self._placed(value) for name, value in found.items()}

    def _placed(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._placed(one) for one in value]
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype if value.is_floating_point() else None)

    @torch.inference_mode()
    def _agrees(self) -> bool:
        if getattr(self.text_config, "attention_chunk_size", None):
            return False  # a few tokens would all be in one chunk
        try:
            return self._is_shared(self._example())
        except _BROKEN as error:
            return is_out_of_memory(error)  # which is said where a prompt meets it

    def _example(self) -> Group:
        noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        texts = [self.processor.render([(question, None)]) for question in _PROBED]
        prepared = self.processor.prepare(texts, {"images": [[Image.fromarray(noise)]]})
        group = Group(("",), [prepared], range(len(texts)), prepared.prompts)  # type: ignore[list-item,arg-type]
        [whole] = prepared.parts(group)
        return whole

    def _is_shared(self, group: Group) -> bool:
        """Whether two steps over a prefix give the logits that `generate` gives for the first prompt."""
        expected = self.model.generate(**self.inputs(group, group.prompts[0]), generation_config=_TWO_STEPS)
        found: list[Tensor] = []

        def choose(logits: Tensor) -> Tensor:
            found.append(logits[0])
            return expected.sequences[0, len(found) - 3].repeat(len(logits))

        rows = Rows(self.text_config.num_hidden_layers, self.device)
        rows.enter(self, [Prefill(group, [])], choose)
        rows.advance(self.language_model, choose)
        pairs = zip(expected.logits, found, strict=True)
        return all(is_same(self.language_model, wanted[0].float(), given) for wanted, given in pairs)


def load_processor(folder: Path) -> TransformersProcessor:
    """A folder's processor.

    Raises:
        CheckpointError: in one line; what transformers does not know, files that are missing.
    """
    config = load_config(folder)
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    except (*_BROKEN, OSError, ImportError) as error:
        raise CheckpointError(f"`model` hf:{folder}: its processor cannot be loaded: {_line(error)}") from error
    if getattr(processor, "tokenizer", None) is None:
        detail = "it has no processor (processor_config.json or preprocessor_config.json) beside its tokenizer"
        raise CheckpointError(f"`model` hf:{folder}: {detail}: take the files of the published model")
    if getattr(processor, "image_processor", None) is None:
        raise CheckpointError(f"`model` hf:{folder}: {config.model_type} takes no pictures")
    check_sizes(processor, f"`model` hf:{folder}")
    generation = _generation(folder, config)
    ends = _ends(generation.eos_token_id, processor.tokenizer.eos_token_id)
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    seen = [getattr(config, name, None) for name in names]
    return TransformersProcessor(processor, ends, [token for token in seen if token is not None], generation)


def load_model(folder: Path, **kwargs: Any) -> Any:
    """A folder's model in evaluation mode, whose `generate` makes nothing likelier but by its weights.

    Args:
        folder: of the model.
        kwargs: of `from_pretrained`.

    Raises:
        CheckpointError: in one line; weights that are missing or of another shape.
    """
    config = load_config(folder)
    check_folder(folder)
    # an error of fewer bits is the caller's to explain
    is_whole = kwargs.get("quantization_config") is None
    told = explained(f"`model` hf:{folder} cannot be loaded")
    try:
        with told if is_whole else contextlib.nullcontext(), within_weights(folder):
            model, info = _auto(config).from_pretrained(
                folder, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
    except (OSError, SafetensorError, ImportError) as error:
        raise CheckpointError(f"`model` hf:{folder} cannot be loaded: {_line(error)}") from error
    refuse_misfits(f"hf:{folder}", info["missing_keys"], (), info["mismatched_keys"])
    model.generation_config = _plain(model.generation_config)
    return model.eval()


def _auto(config: Any) -> Any:
    """The Auto class that knows a model of this configuration."""
    return next(known for known in _AUTO if type(config) in known._model_mapping)


def load_config(folder: Path) -> Any:
    """A model's configuration, of a kind that is shown pictures and answers in text.

    Raises:
        CheckpointError: for any other.
    """
    with explained(f"`model` hf:{folder}: its configuration cannot be read"):
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except (*_BROKEN, OSError, ImportError) as error:
            raise CheckpointError(f"`model` hf:{folder}: {_unknown(folder, error)}") from error
    if isinstance(config, MGLlavaConfig):
        raise CheckpointError(f"`model` hf:{folder} is a model that `mgtool import` wrote: leave hf: out")
    if not any(type(config) in known._model_mapping for known in _AUTO):
        kind = f"{config.model_type} is no model that is shown pictures and answers in text"
        raise CheckpointError(f"`model` hf:{folder}: {kind} (transformers: AutoModelForImageTextToText)")
    return config


def _unknown(folder: Path, error: Exception) -> str:
    """Why transformers cannot read a configuration."""
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"its config.json cannot be read: {_line(error)}"
    kind = about.get("model_type")
    if "auto_map" in about:
        return f"{kind} brings code of its own, which is not run; take a version that transformers knows (often ...-hf)"
    return f"{kind} is not known to transformers {transformers.__version__}; `pip install -U transformers` may help"


def _generation(folder: Path, config: Any) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError):
        return GenerationConfig.from_model_config(config)


def _ends(named: int | list[int] | None, fallback: int | None) -> list[int]:
    ends = fallback if named is None else named
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]


def _plain(own: GenerationConfig) -> GenerationConfig:
    """A model's special tokens but for the ends, which the engine sees to; no penalties, temperatures and the like."""
    kept = {name: value for name, value in own.to_dict().items() if name.endswith("_token_id")}
    return GenerationConfig(**(kept | {"eos_token_id": None}))


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
