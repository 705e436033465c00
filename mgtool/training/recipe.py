"""How a model is trained: the published settings, and what a training would take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from mgtool.errors import UsageError
from mgtool.model.config import MGLlavaConfig
from mgtool.model.modeling import MGLlavaForConditionalGeneration, Stage

PUBLISHED: dict[Stage, dict[str, Any]] = {
    "align": {"learning_rate": 1e-3, "batch_size": 32},
    "tune": {"learning_rate": 2e-5, "batch_size": 16},
}
"""Of the published models, on 8 devices: one epoch, AdamW without weight decay, 3 % warm-up, then a cosine."""

MAX_LENGTH = 1472
"""Most text tokens of a sample, as published: 2048 less the 576 vision tokens."""

BOX_TOKENS = 30
"""Boxes of a picture in the estimate of a training's memory."""

_WARM_UP = 0.03
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ADAM_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a stage is trained.

    Attributes:
        stage: ``align`` trains the projectors and the fusion, ``tune`` those and the language model.
        learning_rate, batch_size: peak rate, and samples on a device at once; the published ones where None.
        accumulate: batches of a step.
        epochs: passes over the samples; `max_steps` above 0 ends sooner or later than that.
        dtype: ``float32``, or the mixed precision ``bfloat16`` or ``float16``; weights stay float32.
        save_steps: steps between checkpoints.
        trainer: further fields of transformers' `TrainingArguments` (fsdp, deepspeed, report_to, ...).
    """

    stage: Stage
    learning_rate: float | None = None
    batch_size: int | None = None
    accumulate: int = 1
    epochs: float = 1.0
    max_steps: int = -1
    dtype: str = "bfloat16"
    save_steps: int = 500
    seed: int = 0
    workers: int = 0
    gradient_checkpointing: bool = False
    use_cpu: bool = False
    trainer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def samples_at_once(self) -> int:
        """Samples on a device at once."""
        return self.batch_size or int(PUBLISHED[self.stage]["batch_size"])

    @property
    def peak(self) -> float:
        """Learning rate after the warm-up."""
        return float(PUBLISHED[self.stage]["learning_rate"]) if self.learning_rate is None else self.learning_rate

    def arguments(self, folder: Path, *, evaluates: bool) -> TrainingArguments:
        """transformers' own form of it, checkpoints going to `folder`.

        Raises:
            UsageError: a field that `TrainingArguments` does not have or does not take.
        """
        fields: dict[str, Any] = {
            "output_dir": str(folder),
            "learning_rate": self.peak,
            "per_device_train_batch_size": self.samples_at_once,
            "per_device_eval_batch_size": self.samples_at_once,
            "gradient_accumulation_steps": self.accumulate,
            "num_train_epochs": self.epochs,
            "max_steps": self.max_steps,
            "lr_scheduler_type": "cosine",
            "warmup_steps": _WARM_UP,
            "bf16": self.dtype == "bfloat16",
            "fp16": self.dtype == "float16",
            "activation_checkpointing": self.gradient_checkpointing,
            "save_steps": self.save_steps,
            "save_total_limit": 2,
            "eval_strategy": "steps" if evaluates else "no",
            "eval_steps": self.save_steps,
            "logging_steps": 10,
            "logging_first_step": True,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": self.seed,
            "use_cpu": self.use_cpu,
            "dataloader_num_workers": self.workers,
            "dataloader_pin_memory": torch.cuda.is_available() and not self.use_cpu,
            "remove_unused_columns": False,
        }
        try:
            return TrainingArguments(**{**fields, **self.trainer})
        except (TypeError, ValueError) as error:
            raise UsageError("trainer", f": {str(error).splitlines()[0]}") from error

    def identity(self, arguments: TrainingArguments) -> dict[str, Any]:
        """What the trained weights depend on, for going on with a run.

        A checkpoint counts the samples that were learned from in steps: their product of batch, `accumulate` and
        processes has to stay, its factors need not.

        Args:
            arguments: its own, in one of the processes that train.
        """
        names = ("stage", "learning_rate", "epochs", "max_steps", "dtype", "seed")
        a_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        fields = {name: getattr(self, name) for name in names}
        return {**fields, "samples_a_step": a_step, "trainer": dict(self.trainer)}


@dataclass(frozen=True)
class Plan:
    """What a training would take; bytes are of one device.

    Attributes:
        parameters: of the whole model, by part.
        trained: parameters that each stage changes.
        steps: of the optimizer.
        weights, gradients, optimizer, activations: bytes; activations are an estimate.
    """

    parameters: dict[str, int]
    trained: dict[str, int]
    steps: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    def summary(self) -> dict[str, Any]:
        """Plain values, memory in gigabytes."""
        memory = {name: getattr(self, name) for name in ("weights", "gradients", "optimizer", "activations")}
        return {
            "parameters": {**self.parameters, "all": sum(self.parameters.values())},
            "trained": self.trained,
            "steps": self.steps,
            "memory_gb": {name: round(size / 1e9, 2) for name, size in {**memory, "all": sum(memory.values())}.items()},
        }


def plan_training(config: MGLlavaConfig, recipe: Recipe, *, samples: int, devices: int, text_tokens: int) -> Plan:
    """What training a model takes, from its configuration alone: no weight is loaded or made.

    Args:
        config: the model's.
        recipe: how it would be trained.
        samples: of one epoch.
        devices: that train together; with `fsdp` or `deepspeed` among the trainer's fields they share the state.
        text_tokens: of one sample; its vision tokens and `BOX_TOKENS` come to them in the estimate of the activations.
    """
    with torch.device("meta"):
        model = MGLlavaForConditionalGeneration(config)
    parameters = {name: _count(part.parameters()) for name, part in model.named_children()}
    trained: dict[str, int] = {
        stage: sum(_count(group["params"]) for group in model.parameter_groups(stage)) for stage in PUBLISHED
    }
    shares = devices if recipe.trainer.get("fsdp") or recipe.trainer.get("deepspeed") else 1
    a_step = recipe.samples_at_once * recipe.accumulate * devices
    steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(math.ceil(samples / a_step) * recipe.epochs)
    changed = trained[recipe.stage]
    return Plan(
        parameters=parameters,
        trained=trained,
        steps=steps,
        weights=sum(parameters.values()) * _BYTES["float32"] // shares,
        gradients=changed * _BYTES["float32"] // shares,
        optimizer=changed * _ADAM_BYTES // shares,
        activations=_activations(config.text_config, recipe, text_tokens + config.low_grid**2 + BOX_TOKENS),
    )


def _activations(llm: Any, recipe: Recipe, tokens: int) -> int:
    """Bytes that the language model keeps for the backward pass, an estimate.

    A layer keeps about 34 bytes for each token and channel in 16 bits, or its input alone where it is computed again
    (Korthikanti et al. 2022, arXiv 2205.05198); the logits, their float32 copy and their gradient come to that.
    """
    width = _BYTES[recipe.dtype]
    values = recipe.samples_at_once * tokens * llm.hidden_size
    a_layer = values * 34 * width // 2
    layers = llm.num_hidden_layers
    kept = layers * values * width + a_layer if recipe.gradient_checkpointing else layers * a_layer
    return kept + recipe.samples_at_once * tokens * llm.vocab_size * (width + 2 * _BYTES["float32"])


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)
