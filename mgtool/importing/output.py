"""The files of a model folder, as `from_pretrained` takes them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from transformers import GenerationConfig

from mgtool.files import hashing
from mgtool.files.atomic import atomic_file, write_bytes
from mgtool.importing.plan import ImportPlan
from mgtool.importing.weights import write_safetensors
from mgtool.model.modeling import MGLlavaForConditionalGeneration
from mgtool.model.processor import MAX_NEW_TOKENS, MGLlavaProcessor
from mgtool.records import Advance
from mgtool.runs import progress

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"


def write_model(plan: ImportPlan, folder: Path, advance: Advance) -> dict[str, str]:
    """Write a planned model.

    Args:
        plan: what is written.
        folder: an empty folder.
        advance: told of bytes that were written.

    Returns:
        SHA-256 of the configuration and of each file of weights.
    """
    plan.config.architectures = [MGLlavaForConditionalGeneration.__name__]
    plan.config.save_pretrained(folder)
    plan.processor.save_pretrained(folder)
    _generation_config(plan.processor).save_pretrained(folder)
    hashes = _write_weights(plan, folder, advance)
    return {**hashes, _CONFIG: hashing.file_sha256(folder / _CONFIG)}


def keep_foreign(old: Path, written: Collection[str], new: Path) -> None:
    """Bring into a new model folder what stands in the old one and is of neither import.

    Args:
        old: the folder that will be replaced; perhaps not there.
        written: names that its import wrote.
        new: the folder in its place.
    """
    for path in old.iterdir() if old.is_dir() else ():
        target = new / path.name
        if path.name in written or _is_weights(path.name) or os.path.lexists(target):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, copy_function=_linked)
        else:
            _linked(path, target)


def _is_weights(name: str) -> bool:
    """Whether the name is one that an import gives: weights of another import must not lie beside those of this one."""
    return name.startswith("model") and name.endswith((".safetensors", ".safetensors.index.json"))


def _linked(path: str | Path, target: str | Path) -> None:
    """A second name for a file, or a copy where the file system knows none."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)


def _write_weights(plan: ImportPlan, folder: Path, advance: Advance) -> dict[str, str]:
    hashes: dict[str, str] = {}
    weight_map: dict[str, str] = {}
    progress.started(advance, plan.counts.bytes)
    for number, shard in enumerate(plan.shards, 1):
        name = _WEIGHTS if len(plan.shards) == 1 else f"model-{number:05d}-of-{len(plan.shards):05d}.safetensors"
        with atomic_file(folder / name) as file:
            hashes[name] = write_safetensors(file, shard)
        weight_map |= dict.fromkeys(shard, name)
        advance(sum(entry.nbytes for entry in shard.values()))
    if len(plan.shards) > 1:
        index = {"metadata": {"total_size": plan.counts.bytes}, "weight_map": weight_map}
        write_bytes(folder / f"{_WEIGHTS}.index.json", json.dumps(index, indent=2, sort_keys=True).encode())
    return hashes


def _generation_config(processor: MGLlavaProcessor) -> GenerationConfig:
    return GenerationConfig(
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.eos_token_ids,
        pad_token_id=processor.pad_token_id,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
    )
