"""What a model's generation_config.json makes likelier or less likely, as transformers' `generate` does it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

Penalty = Callable[[Tensor], Tensor]
"""(vocabulary,) float32 logits of one row -> what its next token is chosen from."""

_logger = logging.getLogger(__name__)
_NOT_FOLLOWED = ("guidance_scale", "num_beams")
"""Fields that are told of where they ask for anything: one token is chosen at a time, from one row."""


class Penalties:
    """Of a model: repetition_penalty, no_repeat_ngram_size, suppress_tokens and the like, but not how to sample.

    Args:
        model: of transformers.
        own: its generation configuration.
        ends: token ids that end an answer.

    Attributes:
        is_empty: whether nothing becomes likelier or less likely.
    """

    def __init__(self, model: Any, own: GenerationConfig, ends: Sequence[int]) -> None:
        self.model, self._config = model, copy.deepcopy(own)
        self._config.do_sample = False
        self._config._eos_token_tensor = torch.tensor(list(ends), device=model.device) if ends else None
        for name in _NOT_FOLLOWED:
            if getattr(own, name) not in (None, 1):
                _logger.warning("generation_config.json: %s %s is not followed", name, getattr(own, name))
            setattr(self._config, name, None)
        self.is_empty = not self._processors([0], 1)

    def of(self, prompt: Sequence[int], limit: int, answer: Sequence[int]) -> Penalty | None:
        """Of one answer; None where the model has none.

        Args:
            prompt: token ids, with a place for whatever the model sees.
            limit: of new tokens.
            answer: the new ones, which become more.
        """
        if self.is_empty:
            return None
        processors, device = self._processors(prompt, limit), self.model.device

        def penalty(logits: Tensor) -> Tensor:
            ids = torch.tensor([[*prompt, *answer]], device=device)
            weighed: Tensor = processors(ids, logits[None].to(device))
            return weighed[0].to(logits.device)

        return penalty

    def _processors(self, prompt: Sequence[int], limit: int) -> LogitsProcessorList:
        """Those that `generate` makes of the configuration for one prompt."""
        self._config.max_length = len(prompt) + limit
        return self.model._get_logits_processor(
            self._config,
            input_ids_seq_length=len(prompt),
            encoder_input_ids=torch.tensor([list(prompt)], device=self.model.device),
            device=str(self.model.device),
        )
