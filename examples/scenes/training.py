"""The loop of stage 0: a warm-up and a cosine, whole checkpoints, a log; it goes on where it was stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

STATE = "state.pt"
LOG = "log.jsonl"
CLIP_NORM = 1.0
LOG_EVERY = 20


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps, batch_size: what they say.
        learning_rate: the peak, after `warmup` steps; a cosine to a hundredth of it follows.
        save_every: steps between checkpoints and evaluations.
        dtype: of the arithmetic; weights are float32.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    save_every: int = 250
    dtype: torch.dtype = torch.float32
    weight_decay: float = 0.05

    def rate(self, step: int) -> float:
        """The learning rate of a step, as a share of the peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2


def train(
    module: nn.Module,
    batch: Callable[[int], Any],
    evaluate: Callable[[], dict[str, float]],
    schedule: Schedule,
    folder: Path,
) -> None:
    """Train a module whose forward gives a dict of losses.

    Args:
        module: what is trained.
        batch: step -> the module's input; the same step gives the same batch.
        evaluate: numbers for the log.
        schedule: see `Schedule`.
        folder: of checkpoint and log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(_groups(module, schedule), lr=schedule.learning_rate, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    first = _restore(folder / STATE, module, optimizer, scheduler)
    began = time.monotonic()
    for step in range(first, schedule.steps):
        losses = _step(module, batch(step), optimizer, schedule.dtype)
        scheduler.step()
        if (step + 1) % LOG_EVERY == 0:
            speed = (time.monotonic() - began) / (step + 1 - first)
            _log(folder, {"step": step + 1, **losses, "seconds_a_step": speed})
        if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
            _save(folder / STATE, step + 1, module, optimizer, scheduler)
            module.eval()
            with torch.no_grad():
                _log(folder, {"step": step + 1, **evaluate()})
            module.train()


def _groups(module: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """No decay for what is no matrix."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _step(module: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, dtype: torch.dtype) -> dict[str, float]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses: dict[str, Tensor] = module(batch)
    total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def _restore(path: Path, module: nn.Module, optimizer: Any, scheduler: Any) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(state["step"])


def _save(path: Path, step: int, module: nn.Module, optimizer: Any, scheduler: Any) -> None:
    state = {"step": step, "module": module.state_dict()}
    state |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    aside = path.with_suffix(".writing")
    torch.save(state, aside)
    aside.replace(path)


def _log(folder: Path, entry: dict[str, Any]) -> None:
    line = {key: round(value, 4) if isinstance(value, float) else value for key, value in entry.items()}
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
