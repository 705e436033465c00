"""What a training run is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from mgtool.inputs.fingerprints import fingerprint
from mgtool.inputs.model_folders import model_identity
from mgtool.runs.run_file import Run
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

    def run(self, path: Path, arguments: TrainingArguments) -> Run:
        """The record of the run that trains this; `arguments` as in `Recipe.identity`."""
        return Run(
            path,
            command="train",
            options={"max_length": self.max_length, **self.recipe.identity(arguments)},
            inputs={"inputs": [fingerprint(given, paths.below) for given in self.inputs]},
            model={"path": str(self.model), "sha256": model_identity(self.model)},
            computes=("accelerate", "timm"),
        )
