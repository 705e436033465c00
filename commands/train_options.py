"""The options of `mgtool train`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mgtool.commands.options import MOST_CONFIG_BYTES
from mgtool.errors import UsageError
from mgtool.files.regular import read_regular
from mgtool.training.options import Precision, TrainingStage


def _fields(given: str) -> dict[str, Any]:
    """What a TOML or JSON file says of transformers' `TrainingArguments`."""
    import tomllib

    path = Path(given)
    try:
        text = read_regular(path, MOST_CONFIG_BYTES).decode()
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError("trainer", f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError("trainer", f"{path}: expected an object with fields of TrainingArguments")
    return fields


Inputs = Annotated[list[str], typer.Argument(metavar="TARS...", help="What `mgtool pack` wrote.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Becomes a model folder.")]
Stage = Annotated[
    TrainingStage, typer.Option("--stage", help="align: projectors and fusion; tune: the language model too.")
]
Evaluate = Annotated[
    str | None, typer.Option("--evaluate", metavar="TARS", help="Measure the loss on these, every --save-steps.")
]
Epochs = Annotated[float, typer.Option("--epochs", min=0, help="Passes over the samples.")]
MaxSteps = Annotated[int, typer.Option("--max-steps", help="End after so many steps.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Samples on a device at once (align: 32, tune: 16).")
]
Accumulate = Annotated[int, typer.Option("--accumulate", min=1, help="Batches of a step.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", min=0, help="Peak (align: 1e-3, tune: 2e-5).")]
MaxLength = Annotated[int, typer.Option("--max-length", min=1, help="Most text tokens of a sample.")]
Dtype = Annotated[Precision, typer.Option("--dtype", help="Of the arithmetic.")]
Device = Annotated[str, typer.Option("--device", help="auto, or cpu.")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="For --dry-run: devices that train together.")]
GradientCheckpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
]
Trainer = Annotated[
    Mapping[str, Any] | None,
    typer.Option(
        "--trainer", metavar="FILE", parser=_fields, help="TOML or JSON with TrainingArguments of transformers."
    ),
]
SaveSteps = Annotated[int, typer.Option("--save-steps", min=1, help="Steps between checkpoints.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the order and of dropout.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that read samples.")]
