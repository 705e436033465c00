"""The published parts -> one folder that `from_pretrained` takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerFast

from mgtool.errors import CheckpointError, InputError, OutputError
from mgtool.files.atomic import atomic_file, atomic_folder, sweep
from mgtool.importing.deepspeed import ZeroFolder, find_folder
from mgtool.importing.weights import Entries, file_entries, folder_entries, read_json, write_safetensors
from mgtool.inputs.fingerprints import fingerprint
from mgtool.model.config import ConvNextTowerConfig, MGLlavaConfig
from mgtool.model.modeling import MGLlavaForConditionalGeneration, refuse_misfits
from mgtool.model.processor import MAX_NEW_TOKENS, MGLlavaProcessor
from mgtool.model.templates import TEMPLATES, find_template
from mgtool.records import Advance
from mgtool.runs.run_file import RUN_FILE, Run

MAX_SHARD_BYTES = 5_000_000_000
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


@dataclass(frozen=True)
class Parts:
    """What a user of the published model has.

    Attributes:
        checkpoint: the MG-LLaVA weights: a file, or a folder of DeepSpeed or of shards.
        llm: the language model's folder.
        clip: the low-resolution tower's folder, CLIP or SigLIP.
        convnext: the high-resolution tower's folder in OpenCLIP's layout.
        template: name of the prompt template, or a JSON file with one.
        fusion: the variant that is expected; None takes what the checkpoint holds.
    """

    checkpoint: Path
    llm: Path
    clip: Path
    convnext: Path
    template: str = "vicuna"
    fusion: str | None = None


@dataclass(frozen=True)
class Plan:
    """What an import will write.

    Attributes:
        config: of the model.
        processor: of the model.
        shards: weights of each file.
        missing_llm: whether the language model's weights come from its own folder.
    """

    config: MGLlavaConfig
    processor: MGLlavaProcessor
    shards: list[Entries]
    missing_llm: bool

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(entry.nbytes for shard in self.shards for entry in shard.values())

    def summary(self) -> dict[str, Any]:
        """Counts for a person."""
        tensors = [entry for shard in self.shards for entry in shard.values()]
        return {
            "parameters": sum(torch.Size(entry.shape).numel() for entry in tensors),
            "tensors": len(tensors),
            "bytes": self.nbytes,
            "shards": len(self.shards),
            "largest_shard_bytes": max(sum(entry.nbytes for entry in shard.values()) for shard in self.shards),
            "fusion": self.config.fusion,
            "boxes": self.config.boxes,
            "llm_weights_from": "llm" if self.missing_llm else "checkpoint",
        }


def plan_import(parts: Parts, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> Plan:
    """Read configurations and keys, and account for every key; no weights are read.

    Raises:
        CheckpointError: listing what is missing, left over or of another shape.
        UsageError: for an unknown template.
    """
    weights = _published(parts.checkpoint)
    missing_llm = not any(key.startswith("language_model.") for key in weights)
    if missing_llm:
        weights |= {f"language_model.{key}": entry for key, entry in _llm_entries(parts.llm).items()}
    weights |= _low_entries(parts.clip)
    config = _config(parts, weights)
    if config.needs_high_tower:
        weights |= _high_entries(parts.convnext)
    weights = _fitted(config, weights, where=str(parts.checkpoint))
    shards = list(_cut(weights, max_shard_bytes))
    return Plan(config, _processor(parts, config), shards, missing_llm)


def import_model(
    parts: Parts,
    out: Path,
    *,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    advance: Advance = lambda n: None,
) -> dict[str, Any]:
    """Write the model's folder: whole or not at all.

    Args:
        parts: what to import.
        out: the folder; one that holds the same import is left as it is.
        overwrite: replace the import that is there.
        max_shard_bytes: bytes of a file of weights.
        advance: called with the bytes that were written.

    Returns:
        Counts; the same is in ``run.json``.

    Raises:
        CheckpointError, UsageError: as `plan_import`.
        ResumeError: where `out` holds another import and may not be replaced.
        OutputError: where `out` holds anything else.
    """
    plan = plan_import(parts, max_shard_bytes=max_shard_bytes)
    _refuse_foreign(out)
    before = _run(parts, max_shard_bytes, out)
    if before.finished and not overwrite:
        before.begin()
        return plan.summary()
    sweep(out.parent)
    with atomic_folder(out) as folder:
        run = _run(parts, max_shard_bytes, folder)
        run.begin()
        run.finish(plan.summary(), model={"files": _write(plan, folder, advance)})
    return plan.summary()


def _refuse_foreign(out: Path) -> None:
    """Only an import or an empty folder is ever replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    run = out / RUN_FILE
    if not run.is_file() or read_json(run).get("command") != "import":
        raise OutputError(f"{out} is there and holds no import: choose another `out`")


def _write(plan: Plan, folder: Path, advance: Advance) -> dict[str, str]:
    plan.config.architectures = [MGLlavaForConditionalGeneration.__name__]
    plan.config.save_pretrained(folder)
    plan.processor.save_pretrained(folder)
    _generation_config(plan).save_pretrained(folder)
    hashes: dict[str, str] = {}
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(plan.shards, 1):
        name = f"model-{number:05d}-of-{len(plan.shards):05d}.safetensors" if len(plan.shards) > 1 else _SINGLE
        with atomic_file(folder / name) as file:
            hashes[name] = write_safetensors(file, shard)
        weight_map |= dict.fromkeys(shard, name)
        advance(sum(entry.nbytes for entry in shard.values()))
    if len(plan.shards) > 1:
        index = {"metadata": {"total_size": plan.nbytes}, "weight_map": weight_map}
        with atomic_file(folder / f"{_SINGLE}.index.json") as file:
            file.write(json.dumps(index, indent=2, sort_keys=True).encode())
    hashes["config.json"] = _sha256(folder / "config.json")
    return hashes


_SINGLE = "model.safetensors"


def _published(path: Path) -> Entries:
    """The checkpoint's weights under this model's names."""
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


def _low_entries(folder: Path) -> Entries:
    """The vision part of a CLIP or SigLIP folder; its text part is left out."""
    entries = folder_entries(_folder(folder, "`clip`"), ("model", "pytorch_model"))
    vision = {key: entry for key, entry in entries.items() if key.startswith("vision_model.")} or entries
    return {"low_tower.encoder." + key.removeprefix("vision_model."): entry for key, entry in vision.items()}


def _high_entries(folder: Path) -> Entries:
    """The trunk's stem and stages of an OpenCLIP folder; text part, norm and head are left out."""
    entries = folder_entries(_folder(folder, "`convnext`"), ("open_clip_model", "open_clip_pytorch_model"))
    trunk = {key.removeprefix("visual.trunk."): entry for key, entry in entries.items() if "visual.trunk." in key}
    return {f"high_tower.{key}": entry for key, entry in trunk.items() if key.startswith(("stem.", "stages."))}


def _folder(path: Path, option: str) -> Path:
    if not path.is_dir():
        raise InputError(f"{option} {path}: no such folder")
    return path


def _config(parts: Parts, weights: Entries) -> MGLlavaConfig:
    text, low = _auto_config(parts.llm, "`llm`"), _auto_config(parts.clip, "`clip`")
    low = getattr(low, "vision_config", low)
    open_clip = read_json(_folder(parts.convnext, "`convnext`") / "open_clip_config.json")
    try:
        architecture = open_clip["model_cfg"]["vision_cfg"]["timm_model_name"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{parts.convnext}/open_clip_config.json names no timm trunk") from error
    high = ConvNextTowerConfig(architecture=architecture)
    # The published side (768) is what brings the last map to the low tower's grid.
    high.image_size = (low.image_size // low.patch_size) * high.strides[-1]
    fusion, boxes = _variant(weights, low.hidden_size, high.widths[-1], parts)
    config = MGLlavaConfig(text_config=text, low_config=low, high_config=high, fusion=fusion, boxes=boxes)
    embedding = next((entry for key, entry in weights.items() if key.startswith("language_model.")), None)
    config.dtype = embedding.dtype if embedding else torch.float32
    return config


def _auto_config(folder: Path, option: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(_folder(folder, option), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{option} {folder}: {str(error).splitlines()[0]}") from error


def _variant(weights: Entries, low_width: int, last_width: int, parts: Parts) -> tuple[str, bool]:
    """Which of the paper's variants a checkpoint holds: fusion, and whether objects are tokens."""
    first = weights.get("projector.0.weight")
    if first is None:
        raise CheckpointError(f"{parts.checkpoint} holds no projector.model.0.weight: this is no MG-LLaVA checkpoint")
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
            f"{parts.checkpoint}: the projector takes {width} channels {'with' if gated else 'without'} a gate; "
            f"with towers of {low_width} and {last_width} channels that is no known fusion"
        )
    if parts.fusion not in (None, found):
        raise CheckpointError(f"{parts.checkpoint} holds fusion {found}, not {parts.fusion}")
    return found, any(key.startswith("box_projector.") for key in weights)


def _fitted(config: MGLlavaConfig, weights: Entries, *, where: str) -> Entries:
    """The weights in the model's order; refuses any that the model lacks or that lack a place in it."""
    with torch.device("meta"):
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


def _cut(weights: Entries, max_bytes: int) -> Iterator[Entries]:
    shard: Entries = {}
    size = 0
    for key, entry in weights.items():
        if shard and size + entry.nbytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[key] = entry
        size += entry.nbytes
    yield shard


def _processor(parts: Parts, config: MGLlavaConfig) -> MGLlavaProcessor:
    try:
        # AutoTokenizer builds a Llama tokenizer anew, with rules of its own in place of those of the folder's file
        is_whole = (parts.llm / "tokenizer.json").is_file()
        reader = PreTrainedTokenizerFast if is_whole else AutoTokenizer
        tokenizer = reader.from_pretrained(parts.llm, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"`llm` {parts.llm} has no tokenizer: {str(error).splitlines()[0]}") from error
    template = parts.template if parts.template in TEMPLATES else find_template(parts.template).to_dict()
    options: dict[str, Any] = {"template": template, "image_size": config.image_size}
    preprocessor = parts.clip / "preprocessor_config.json"
    if preprocessor.is_file():
        settings = read_json(preprocessor)
        options |= {key: settings[key] for key in ("image_mean", "image_std") if key in settings}
    processor = MGLlavaProcessor(tokenizer, **options)
    tokenizer.chat_template = processor.chat_template
    return processor


def _generation_config(plan: Plan) -> GenerationConfig:
    processor = plan.processor
    return GenerationConfig(
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.eos_token_ids,
        pad_token_id=processor.pad_token_id,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
    )


def _run(parts: Parts, max_shard_bytes: int, folder: Path) -> Run:
    places = {"checkpoint": parts.checkpoint, "llm": parts.llm, "clip": parts.clip, "convnext": parts.convnext}
    inputs = {name: fingerprint(str(path), whole=True) for name, path in places.items()}
    template = parts.template
    return Run(
        folder / RUN_FILE,
        command="import",
        options={
            "template": fingerprint(template) if Path(template).is_file() else template,
            "fusion": parts.fusion,
            "max_shard_bytes": max_shard_bytes,
        },
        inputs=inputs,
        computes=("timm", "safetensors"),
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
