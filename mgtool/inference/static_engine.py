"""Answers of models whose prompts cannot share what was computed: by transformers' own `generate`, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from mgtool.errors import ItemError
from mgtool.inference.engine import Engine
from mgtool.inference.scheduler import RunningSequence
from mgtool.inference.transformers_model import TransformersModel
from mgtool.inference.transformers_processor import IN_SEQUENCE, Inputs

MOST_ROWS = {"cpu": 8}
"""Rows of a batch; each has its pictures for itself."""
_MOST_ROWS = 32


class StaticEngine(Engine):
    """As `Engine`, but the prompts of a batch begin and end together.

    Args:
        model: a `TransformersModel`.
        processor: the model's.
        options: as of `Engine`.
    """

    def __init__(self, model: TransformersModel, processor: Any, **options: Any) -> None:
        rows = options.pop("batch_size", None) or MOST_ROWS.get(model.device.type, _MOST_ROWS)
        super().__init__(model, processor, batch_size=rows, **options)
        self._whole = model

    def _no_rows(self) -> Any:
        return _NoRows()

    def _schedule(self) -> None:
        """Draw prompts while there is room; none while others run."""
        while self._scheduler.has_room():
            held = sum(len(sequence.prompt.prompts[0]) for sequence in self._scheduler.running)
            group = self._scheduler.next_group(self.token_budget - held)
            if group is None:
                return
            begun = [self._begin(group.part(at, at + 1), []) for at in range(len(group.prompts))]
            self._scheduler.running += [one for one in begun if isinstance(one, RunningSequence)]
            self._ready += [
                (number, bad) for number, bad in zip(group.numbers, begun, strict=True) if isinstance(bad, ItemError)
            ]

    def _run(self) -> None:
        """All tokens of every prompt that runs."""
        running = self._scheduler.running
        if not running:
            return
        batches: dict[Any, list[RunningSequence]] = {}
        try:
            for sequence in running:
                inputs = self._whole.inputs(sequence.prompt, sequence.prompt.prompts[0])
                batches.setdefault(_kind(inputs), []).append(sequence)
            for batch in batches.values():
                self._answer(batch)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            self._back_off(error)

    def _answer(self, batch: Sequence[RunningSequence]) -> None:
        """Prompts whose pictures have the same shapes, with the tokens of each."""
        inputs = [self._whole.inputs(one.prompt, one.prompt.prompts[0]) for one in batch]
        chosen = _Chosen(self, batch)
        self._whole.model.generate(
            **_together(inputs, self.processor.pad_token_id),
            generation_config=GenerationConfig(
                max_new_tokens=max(one.limit for one in batch),
                do_sample=False,
                pad_token_id=self.processor.pad_token_id,
            ),
            logits_processor=LogitsProcessorList([chosen]),
            stopping_criteria=StoppingCriteriaList([_Ended(chosen)]),
        )

    def take(self, logits: Tensor, sequences: Sequence[RunningSequence]) -> list[bool]:
        """Add a token to each; whether it was its last."""
        for sequence, token in zip(sequences, self._choose(logits, sequences).tolist(), strict=True):
            sequence.ids.append(token)
            sequence.finish_reason = self._ended(sequence)
        return [sequence.finish_reason is not None for sequence in sequences]


class _NoRows:
    """Nothing is kept between two batches."""

    held = 0

    def leave(self, rows: Sequence[int]) -> None:
        pass

    def forget(self) -> None:
        pass


class _Chosen(LogitsProcessor):
    """The engine's sampler in the place of `generate`'s; rows that ended go on with padding."""

    def __init__(self, engine: StaticEngine, sequences: Sequence[RunningSequence]) -> None:
        self.engine, self.sequences = engine, sequences
        self.ended = [False] * len(sequences)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = [row for row, is_over in enumerate(self.ended) if not is_over]
        over = self.engine.take(scores[rows].float(), [self.sequences[row] for row in rows])
        tokens = torch.full((len(scores),), self.engine.processor.pad_token_id, device=scores.device)
        for row, is_over in zip(rows, over, strict=True):
            self.ended[row], tokens[row] = is_over, max(self.sequences[row].ids[-1], 0)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


class _Ended(StoppingCriteria):
    def __init__(self, chosen: _Chosen) -> None:
        self.chosen = chosen

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.tensor(self.chosen.ended, device=input_ids.device)


def _kind(inputs: Inputs) -> Any:
    """What inputs of one batch have in common."""
    shapes = ((name, getattr(value, "shape", (0,))[1:]) for name, value in inputs.items() if name not in IN_SEQUENCE)
    return tuple(inputs), tuple(shapes)


def _together(inputs: Sequence[Inputs], pad: int) -> Inputs:
    """One batch, padded on the left."""
    longest = max(one["input_ids"].shape[1] for one in inputs)
    batch: Inputs = {}
    for name in inputs[0]:
        values = [one[name] for one in inputs]
        if name in IN_SEQUENCE:
            values = [_padded(value, longest, pad if name == "input_ids" else 0) for value in values]
        is_listed = isinstance(values[0], list)
        batch[name] = [entry for value in values for entry in value] if is_listed else torch.cat(values)
    return batch


def _padded(tensor: Tensor, length: int, value: int) -> Tensor:
    added = tensor.new_full((len(tensor), length - tensor.shape[1], *tensor.shape[2:]), value)
    return torch.cat([added, tensor], dim=1)
