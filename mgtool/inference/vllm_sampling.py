"""This project's samplers in the place of vLLM's, so that an answer is chosen in one way whatever computes it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from mgtool.inference.vllm_model import Chooser

_NUMBER = "mgtool_number"


class _Choosing(Protocol):
    choose: Chooser


def parameters(number: int, *, limit: int, ends: list[int]) -> Any:
    """What vLLM is asked for one row.

    Args:
        number: of the prompt.
        limit: of new tokens.
        ends: token ids that end an answer.
    """
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=limit,
        stop_token_ids=ends,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args={_NUMBER: number},
    )


def make_processor(source: _Choosing) -> type[LogitsProcessor]:
    """A class for vLLM, whose instances leave to a row the token alone that `source.choose` gives."""

    class Chosen(LogitsProcessor):
        def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
            self.numbers: dict[int, int] = {}

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: BatchUpdate | None) -> None:
            if batch_update is not None:
                update(self.numbers, batch_update)

        def apply(self, logits: Tensor) -> Tensor:
            if len(self.numbers) < len(logits):
                return logits  # vLLM measures its memory
            return source.choose(logits, [self.numbers[row] for row in range(len(logits))])

    return Chosen


def update(numbers: dict[int, int], changes: BatchUpdate) -> None:
    """Follow vLLM's rows: those that left, that came, that changed places."""
    for row in changes.removed:
        numbers.pop(row, None)
    for row, params, _, _ in changes.added:
        numbers[row] = params.extra_args[_NUMBER]
    for first, second, way in changes.moved:
        moved, other = numbers.pop(first, None), numbers.pop(second, None)
        if moved is not None:
            numbers[second] = moved
        if way == MoveDirectionality.SWAP and other is not None:
            numbers[first] = other
