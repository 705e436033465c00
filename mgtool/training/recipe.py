"""How a model is trained: the published settings, and what a training would take."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from mgtool.errors import UsageError
from mgtool.model.config import MGLlavaConfig
from mgtool.model.modeling import MGLlavaForConditionalGeneration
from mgtool.training.options import TrainingStage, TrainOptions

PUBLISHED: dict[TrainingStage, dict[str, Any]] = {
    "align": {"learning_rate": 1e-3, "batch_size": 32},
    "tune": {"learning_rate": 2e-5, "batch_size": 16},
}
"""Of the published models, on 8 devices: one epoch, AdamW without weight decay, 3 % warm-up, then a cosine."""

BOX_TOKENS = 30
"""Boxes of a picture in the estimate of a training's memory."""

_FIXED: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "save_total_limit": 2,
    "logging_steps": 10,
    "logging_first_step": True,
    "report_to": "none",
    "disable_tqdm": True,
    "remove_unused_columns": False,
}
"""Fields of `TrainingArguments` that only `trainer` changes."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ADAM_BYTES = 8


def samples_at_once(options: TrainOptions) -> int:
    """Samples on a device at once."""
    return options.batch_size or int(PUBLISHED[options.stage]["batch_size"])


def training_arguments(options: TrainOptions, folder: Path) -> TrainingArguments:
    """Transformers' own form of the options, checkpoints going to `folder`.

    Raises:
        UsageError: a field of `trainer` that `TrainingArguments` does not have or does not take.
    """
    rate, at_once = options.learning_rate, samples_at_once(options)
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "learning_rate": float(PUBLISHED[options.stage]["learning_rate"]) if rate is None else rate,
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        "gradient_accumulation_steps": options.accumulate,
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps,
        "bf16": options.dtype == "bfloat16",
        "fp16": options.dtype == "float16",
        _checkpointing(): options.gradient_checkpointing,
        "save_steps": options.save_steps,
        "eval_strategy": "no" if options.evaluate is None else "steps",
        "eval_steps": options.save_steps,
        "seed": options.seed,
        "use_cpu": options.device == "cpu",
        "dataloader_num_workers": options.workers,
        "dataloader_pin_memory": torch.cuda.is_available() and options.device != "cpu",
    }
    try:
        return TrainingArguments(**{**_FIXED, **given, **(options.trainer or {})})
    except (TypeError, ValueError) as error:
        raise UsageError("trainer", f": {str(error).splitlines()[0]}") from error


def _checkpointing() -> str:
    """What `TrainingArguments` calls it; until transformers 5.22 it has but the name that is deprecated since."""
    names = {field.name for field in fields(TrainingArguments)}
    return next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in names)


def identity(options: TrainOptions, arguments: TrainingArguments) -> dict[str, Any]:
    """What the trained weights depend on beside the samples and the model, for going on with a run.

    A checkpoint counts the samples that were learned from in steps: their product of batch, `accumulate` and
    processes has to stay, its factors need not.

    Args:
        options: what is asked for.
        arguments: the same, in one of the processes that train.
    """
    names = ("max_length", "stage", "learning_rate", "epochs", "max_steps", "dtype", "seed")
    a_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    fields = {name: getattr(options, name) for name in names}
    return {**fields, "samples_a_step": a_step, "trainer": dict(options.trainer or {})}


@dataclass(frozen=True)
class TrainPlan:
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


def plan_training(config: MGLlavaConfig, options: TrainOptions, *, samples: int, devices: int) -> TrainPlan:
    """What training a model takes, from its configuration alone: no weight is loaded or made.

    The activations are estimated for samples of `max_length` text tokens, with their vision tokens and `BOX_TOKENS`.

    Args:
        config: the model's.
        options: how it would be trained.
        samples: of one epoch.
        devices: that train together; with `fsdp` or `deepspeed` among the trainer's fields they share the state.
    """
    with torch.device("meta"):
        model = MGLlavaForConditionalGeneration(config)
    parameters = {name: _count(part.parameters()) for name, part in model.named_children()}
    trained: dict[str, int] = {
        stage: sum(_count(group["params"]) for group in model.parameter_groups(stage)) for stage in PUBLISHED
    }
    shares = (
        devices if {"fsdp", "deepspeed"} & {name for name, value in (options.trainer or {}).items() if value} else 1
    )
    changed, tokens = trained[options.stage], options.max_length + config.low_grid**2 + BOX_TOKENS
    return TrainPlan(
        parameters=parameters,
        trained=trained,
        steps=_steps(options, samples, devices),
        weights=sum(parameters.values()) * _BYTES["float32"] // shares,
        gradients=changed * _BYTES["float32"] // shares,
        optimizer=changed * _ADAM_BYTES // shares,
        activations=_activations(config.text_config, options, tokens),
    )


def _steps(options: TrainOptions, samples: int, devices: int) -> int:
    a_step = samples_at_once(options) * options.accumulate * devices
    return options.max_steps if options.max_steps > 0 else math.ceil(math.ceil(samples / a_step) * options.epochs)


def _activations(llm: Any, options: TrainOptions, tokens: int) -> int:
    """Bytes that the language model keeps for the backward pass, an estimate.

    A layer keeps about 34 bytes for each token and channel in 16 bits, or its input alone where it is computed again
    (Korthikanti et al. 2022, arXiv 2205.05198); the logits, their float32 copy and their gradient come to that.
    """
    width = _BYTES[options.dtype]
    values = samples_at_once(options) * tokens * llm.hidden_size
    a_layer = values * 34 * width // 2
    layers = llm.num_hidden_layers
    kept = layers * values * width + a_layer if options.gradient_checkpointing else layers * a_layer
    return kept + samples_at_once(options) * tokens * llm.vocab_size * (width + 2 * _BYTES["float32"])


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)
