"""What a run would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class InferenceEstimate:
    """What a run would take.

    Attributes:
        samples: that would be asked.
        unreadable: items of the input that are no samples.
        max_new_tokens: limit of an answer.
        batch_size: most prompts decoded together; None for what the device is good for.
        dtype: of the weights.
        weight_bytes: of all weights.
        token_bytes: of one token's keys and values.
        left_out: what else the inputs hold: count and examples by reason.
    """

    samples: int
    unreadable: int
    max_new_tokens: int
    batch_size: int | None
    dtype: str
    weight_bytes: int
    token_bytes: int
    left_out: Mapping[str, Any] = field(default_factory=dict)
