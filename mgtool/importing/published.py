"""The published parts under this model's names: weights, configuration, processor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from mgtool.errors import CheckpointError, InputError
from mgtool.files.checkpoints import explained
from mgtool.files.configurations import check_files
from mgtool.files.model_size import within_numbers
from mgtool.importing.chat_templates import own_template
from mgtool.importing.deepspeed import ZeroFolder, find_folder
from mgtool.importing.options import AUTO, ImportParts
from mgtool.importing.weights import Entries, file_entries, folder_entries, read_json
from mgtool.media.placeholders import IMAGE
from mgtool.model.config import IMAGE_TOKEN_ID, ConvNextTowerConfig, MGLlavaConfig
from mgtool.model.loading import refuse_misfits
from mgtool.model.modeling import MGLlavaForConditionalGeneration
from mgtool.model.processor import MGLlavaProcessor
from mgtool.model.templates import TEMPLATES, find_template

WRAPPERS = frozenset({"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
"""What data-parallel, compiled and checkpointed modules leave inside keys."""

_RENAMED = {
    "llm.": "language_model.",
    "projector.model.": "projector.",
    "bbox_projector.model.": "box_projector.",
    "fuse_module.": "fusion.",
}
_DERIVED = ("rotary_emb.inv_freq", "embeddings.position_ids")
"""Buffers that old releases of transformers saved and new ones compute."""


def weights_of_parts(options: ImportParts) -> tuple[Entries, bool]:
    """All weights but the high-resolution tower's, and whether the language model's are those of its own folder."""
    weights = _checkpoint(options.checkpoint)
    missing_llm = not any(key.startswith("language_model.") for key in weights)
    if missing_llm:
        weights |= {f"language_model.{key}": entry for key, entry in _llm_entries(options.llm).items()}
    return weights | _low_tower(options.clip), missing_llm


def holds_language_model(checkpoint: Path) -> bool:
    """Whether a checkpoint has the language model's weights, too; errors as of an import of it."""
    return any(key.startswith("language_model.") for key in _checkpoint(checkpoint))


def _checkpoint(path: Path) -> Entries:
    if path.is_dir():
        zero = find_folder(path)
        entries = ZeroFolder(zero).entries() if zero else folder_entries(path, ("model", "pytorch_model"))
    elif path.is_file():
        entries = file_entries(path)
    else:
        raise InputError(f"`checkpoint` {path}: no such file or folder")
    renamed: Entries = {}
    for key, entry in entries.items():
        name = _rename(key)
        if name in renamed:
            raise CheckpointError(f"{path} holds {name} twice: as {renamed[name].key} and as {key}")
        renamed[name] = entry
    return renamed


def _rename(key: str) -> str:
    """A published key as this model's.

    >>> _rename("module.llm._checkpoint_wrapped_module.lm_head.weight")
    'language_model.lm_head.weight'
    """
    bare = ".".join(part for part in key.split(".") if part not in WRAPPERS)
    for prefix, ours in _RENAMED.items():
        if bare.startswith(prefix):
            return ours + bare.removeprefix(prefix)
    return bare


def _llm_entries(folder: Path) -> Entries:
    return folder_entries(_folder(folder, "`llm`"), ("model", "pytorch_model"))


def _low_tower(folder: Path) -> Entries:
    """The vision part of a CLIP or SigLIP folder; its text part is left out."""
    entries = folder_entries(_folder(folder, "`clip`"), ("model", "pytorch_model"))
    vision = {key: entry for key, entry in entries.items() if key.startswith("vision_model.")} or entries
    return {"low_tower.encoder." + key.removeprefix("vision_model."): entry for key, entry in vision.items()}


def high_tower(folder: Path) -> Entries:
    """The trunk's stem and stages of an OpenCLIP folder; text part, norm and head are left out."""
    entries = folder_entries(_folder(folder, "`convnext`"), ("open_clip_model", "open_clip_pytorch_model"))
    trunk = {key.removeprefix("visual.trunk."): entry for key, entry in entries.items() if "visual.trunk." in key}
    return {f"high_tower.{key}": entry for key, entry in trunk.items() if key.startswith(("stem.", "stages."))}


def _folder(path: Path, option: str) -> Path:
    if not path.is_dir():
        raise InputError(f"{option} {path}: no such folder")
    check_files(path)
    return path


def configuration(options: ImportParts, weights: Entries) -> MGLlavaConfig:
    """The model's configuration, from those of its parts and from what the weights are.

    Raises:
        CheckpointError: parts that cannot be read, or do not go together.
    """
    with explained(f"{options.llm}, {options.clip} and {options.convnext}: configurations that make no model"):
        return _configuration(options, weights)


def _configuration(options: ImportParts, weights: Entries) -> MGLlavaConfig:
    text, low = _auto_config(options.llm, "`llm`"), _auto_config(options.clip, "`clip`")
    low = getattr(low, "vision_config", low)
    open_clip = read_json(_folder(options.convnext, "`convnext`") / "open_clip_config.json")
    try:
        architecture = open_clip["model_cfg"]["vision_cfg"]["timm_model_name"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{options.convnext}/open_clip_config.json names no timm trunk") from error
    high = ConvNextTowerConfig(architecture=architecture)
    # The published side (768) is what brings the last map to the low tower's grid.
    high.image_size = (low.image_size // low.patch_size) * high.strides[-1]
    fusion, boxes = _variant(options, weights, low.hidden_size, high.widths[-1])
    config = MGLlavaConfig(text_config=text, low_config=low, high_config=high, fusion=fusion, boxes=boxes)
    embedding = next((entry for key, entry in weights.items() if key.startswith("language_model.")), None)
    config.dtype = embedding.dtype if embedding else torch.float32
    return config


def _auto_config(folder: Path, option: str) -> PreTrainedConfig:
    with explained(f"{option} {folder}"):
        return AutoConfig.from_pretrained(_folder(folder, option), local_files_only=True, trust_remote_code=False)


def _variant(options: ImportParts, weights: Entries, low_width: int, last_width: int) -> tuple[str, bool]:
    """Which of the paper's variants a checkpoint holds: fusion, and whether objects are tokens."""
    first = weights.get("projector.0.weight")
    if first is None:
        raise CheckpointError(f"{options.checkpoint} holds no projector.model.0.weight: this is no MG-LLaVA checkpoint")
    gated, width = "fusion.gate.0.weight" in weights, first.shape[-1]
    variants = {
        (True, low_width): "conv_gate",
        (True, 2 * low_width): "conv_gate_concat",
        (False, low_width + last_width): "channel_concat",
        (False, low_width): "none",
    }
    found = variants.get((gated, width))
    if found is None:
        raise CheckpointError(
            f"{options.checkpoint}: the projector takes {width} channels {'with' if gated else 'without'} a gate; "
            f"with towers of {low_width} and {last_width} channels that is no known fusion"
        )
    if options.fusion not in (None, found):
        raise CheckpointError(f"{options.checkpoint} holds fusion {found}, not {options.fusion}")
    return found, any(key.startswith("box_projector.") for key in weights)


def fitted(config: MGLlavaConfig, weights: Entries, *, where: str) -> Entries:
    """The weights in the model's order; refuses any that the model lacks or that lack a place in it."""
    numbers = sum(math.prod(entry.shape) for entry in weights.values())
    with torch.device("meta"), within_numbers(where, numbers, len(weights)):
        model = MGLlavaForConditionalGeneration(config)
    expected = model.state_dict()
    tied = set(model.all_tied_weights_keys)
    needed = [key for key in expected if key not in tied]
    left = {key for key in weights if key not in expected and not key.endswith(_DERIVED)}
    wrong = [key for key in needed if key in weights and weights[key].shape != tuple(expected[key].shape)]
    shapes = [f"{key} {list(weights[key].shape)} for {list(expected[key].shape)}" for key in wrong]
    refuse_misfits(where, set(needed) - weights.keys(), left, shapes)
    for key, source in model.all_tied_weights_keys.items():
        if key in weights and not weights[key].equals(weights[source]):
            raise CheckpointError(
                f"{where}: {key} is not {source}, to which the language model's config.json ties it: "
                "set tie_word_embeddings to false there"
            )
    return {key: weights[key] for key in needed}


def processor(options: ImportParts, config: MGLlavaConfig) -> MGLlavaProcessor:
    """The model's processor: the language model's tokenizer, a template, and the low tower's pixels."""
    preprocessor = options.clip / "preprocessor_config.json"
    settings = read_json(preprocessor) if preprocessor.is_file() else {}
    pixels = {key: settings[key] for key in ("image_mean", "image_std") if key in settings}
    tokenizer = _tokenizer(options.llm)
    template: str | dict[str, Any] = options.template
    if template == AUTO:
        template = own_template(tokenizer).to_dict()
    elif template not in TEMPLATES:
        template = find_template(template).to_dict()
    made = MGLlavaProcessor(
        tokenizer,
        template=template,
        image_size=config.image_size,
        vision_tokens=config.vision_tokens,
        box_tokens=config.boxes,
        image_token_id=_place_token(tokenizer, config.text_config.vocab_size),
        **pixels,
    )
    tokenizer.chat_template = made.chat_template
    return made


def _place_token(tokenizer: Any, rows: int) -> int:
    """An id of the embedding that no text has: a token for pictures, a row beyond the tokenizer's, or a NUL's token."""
    own = tokenizer.get_vocab().get(IMAGE)
    nul = tokenizer.encode("\0", add_special_tokens=False)[-1:]
    spare = rows - 1 if rows > len(tokenizer) else None
    found = [token for token in (own, spare, *nul) if token is not None and token < rows]
    unusable = {tokenizer.unk_token_id, *tokenizer.all_special_ids} - {own}
    return next((token for token in found if token not in unusable), IMAGE_TOKEN_ID)


def _tokenizer(folder: Path) -> Any:
    # AutoTokenizer builds a Llama tokenizer anew, with rules of its own in place of those of the folder's file
    reader = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    with explained(f"`llm` {folder} has no tokenizer"):
        return reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
