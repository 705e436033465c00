"""What an import is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUTO = "auto"
"""The template that the language model's tokenizer brings."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a user of the published model has, and what the folder is to be.

    Attributes:
        checkpoint: the MG-LLaVA weights: a file, or a folder of DeepSpeed or of shards.
        llm: the language model's folder.
        clip: the low-resolution tower's folder, CLIP or SigLIP.
        convnext: the high-resolution tower's folder in OpenCLIP's layout.
        template: name of the prompt template, a JSON file with one, or ``auto`` for the language model's own.
        fusion: the variant that is expected; None takes what the checkpoint holds.
        max_shard_size: gigabytes of a file of weights.
    """

    checkpoint: Path
    llm: Path
    clip: Path
    convnext: Path
    template: str = "vicuna"
    fusion: str | None = None
    max_shard_size: float = 5.0
