"""What an import is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgtool.errors import UsageError

PARTS = ("checkpoint", "llm", "clip", "convnext")


@dataclass(frozen=True, kw_only=True)
class ImportParts:
    """The parts of a model on this machine, and what the folder is to be: as `ImportOptions`, and all of it there."""

    checkpoint: Path
    llm: Path
    clip: Path
    convnext: Path
    template: str
    fusion: str | None
    max_shard_size: float


AUTO = "auto"
"""The template that the language model's tokenizer brings."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a user of the published model has, and what the folder is to be.

    Attributes:
        preset: a published size, one of `mgtool.importing.presets.PRESETS`, whose parts are downloaded where they are
            not given; empty for none.
        checkpoint: the MG-LLaVA weights: a file, or a folder of DeepSpeed or of shards; with a preset also the name of
            one of its files on the hub.
        llm: the language model's folder.
        clip: the low-resolution tower's folder, CLIP or SigLIP.
        convnext: the high-resolution tower's folder in OpenCLIP's layout.
        template: name of the prompt template, a JSON file with one, or ``auto`` for the language model's own; empty for
            the preset's, or ``vicuna``.
        fusion: the variant that is expected; None takes what the checkpoint holds.
        max_shard_size: gigabytes of a file of weights.
    """

    preset: str = ""
    checkpoint: Path | None = None
    llm: Path | None = None
    clip: Path | None = None
    convnext: Path | None = None
    template: str = ""
    fusion: str | None = None
    max_shard_size: float = 5.0

    def parts(self, **places: Any) -> ImportParts:
        """All parts, of these options or of `places`.

        Raises:
            UsageError: one is missing.
        """
        found = {name: getattr(self, name) for name in (*PARTS, "template", "fusion", "max_shard_size")} | places
        for name in PARTS:
            if found[name] is None:
                raise UsageError(name, "is missing: give it, or a `preset`")
        return ImportParts(**{**found, "template": found["template"] or "vicuna"})
