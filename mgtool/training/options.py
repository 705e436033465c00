"""What a training is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mgtool.errors import UsageError, one_of

TrainingStage = Literal["align", "tune"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How which model is trained.

    Attributes:
        model: folder of the model to start from.
        stage: ``align`` trains the projectors and the fusion, ``tune`` those and the language model.
        evaluate: packed tars to measure the loss on, every `save_steps`.
        epochs: passes over the samples; `max_steps` above 0 ends sooner or later than that.
        batch_size: samples on a device at once; None for the published number of the stage.
        accumulate: batches of a step.
        learning_rate: after the warm-up; None for the published one of the stage.
        max_length: most text tokens of a sample; as published: 2048 less the 576 vision tokens.
        dtype: ``float32``, or the mixed precision ``bfloat16`` or ``float16``; weights stay float32.
        device: ``auto`` or ``cpu``; torchrun gives each process its own device.
        gradient_checkpointing: less memory for a third more time.
        trainer: further fields of transformers' `TrainingArguments` (fsdp, deepspeed, report_to, ...).
        save_steps: steps between checkpoints.
        seed: of the order and of dropout.
        workers: processes that read samples; 0 reads in the one that trains.

    Raises:
        UsageError: naming a field whose value there is not.
    """

    model: Path
    stage: TrainingStage = "tune"
    evaluate: str | None = None
    epochs: float = 1.0
    max_steps: int = -1
    batch_size: int | None = None
    accumulate: int = 1
    learning_rate: float | None = None
    max_length: int = 1472
    dtype: Precision = "bfloat16"
    device: str = "auto"
    gradient_checkpointing: bool = False
    trainer: Mapping[str, Any] | None = None
    save_steps: int = 500
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise UsageError("device", f"{self.device}: auto or cpu; torchrun gives each process its own device")
        for name, known in (("stage", get_args(TrainingStage)), ("dtype", get_args(Precision))):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise UsageError(name, f"{value}: there are {one_of(value, known)}")
