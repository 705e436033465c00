"""What a training run is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from mgtool.inputs.fingerprints import fingerprint
from mgtool.inputs.model_folders import model_identity
from mgtool.tars import paths
from mgtool.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is trained on what.

    Attributes:
        inputs: packed tars, as `mgtool.TarIndex.of` takes them.
        model: folder of the model to start from.
        recipe: how it is trained.
        max_length: most text tokens of a sample.
        evaluate: packed tars to measure the loss on.
    """

    inputs: Sequence[str]
    model: Path
    recipe: Recipe
    max_length: int
    evaluate: str | None = None

    def identity(self, arguments: TrainingArguments) -> dict[str, Any]:
        """What the trained weights depend on, for going on with a run; `arguments` as in `Recipe.identity`."""
        return {
            "model": model_identity(self.model),
            "input": [fingerprint(given, paths.below) for given in self.inputs],
            "max_length": self.max_length,
            **self.recipe.identity(arguments),
        }
