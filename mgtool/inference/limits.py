"""How long a prompt may be: the positions of a language model, and what is counted against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class PositionLimit:
    """Of a language model.

    Attributes:
        longest: tokens that its configuration names; None for one that names no number.
        is_learned: every position is a row of a table, so that there is none beyond.
    """

    longest: int | None
    is_learned: bool

    @classmethod
    def of(cls, language_model: nn.Module) -> PositionLimit:
        """A model's."""
        config: Any = language_model.config
        names = [name for name, module in language_model.named_modules() if isinstance(module, nn.Embedding)]
        is_learned = any(_is_of_positions(name.rpartition(".")[2]) for name in names)
        return cls(getattr(config, "max_position_embeddings", None), is_learned)

    @classmethod
    def of_config(cls, text_config: Any) -> PositionLimit:
        """The same without any weight."""
        with torch.device("meta"):
            return cls.of(AutoModelForCausalLM.from_config(text_config, trust_remote_code=False))

    def counted(self, ids: Sequence[int], visual: int, *, is_video: bool) -> int:
        """The tokens of a prompt that count.

        Eight frames are more tokens than most language models name, and the published model was shown them; so a
        video's count only where the model has no positions for them.

        Args:
            ids: of the text, with placeholders.
            visual: tokens of pictures and boxes.
            is_video: whether they are a video's.
        """
        text = sum(token >= 0 for token in ids)
        return text if is_video and not self.is_learned else text + visual


def _is_of_positions(name: str) -> bool:
    return name == "wpe" or "position" in name or "pos_emb" in name
