"""How the next token of each row is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass
class Draw:
    """What a chooser remembers of one row; a row that begins again gets a new one.

    Attributes:
        number: the prompt's.
        done: whether the answer is whole without an end token.
        logprobs: of the tokens so far, where they are asked for.
    """

    number: int
    done: bool = False
    logprobs: list[float] = field(default_factory=list)


class Chooser(Protocol):
    """Chooses tokens for rows that are decoded together."""

    def begin(self, number: int) -> Draw:
        """The state of a row whose prompt has this number."""
        ...

    def choose(self, logits: Tensor, draws: Sequence[Draw]) -> Tensor:
        """(R, vocabulary) float32 and the R rows' states, which it may change -> (R,) int64."""
        ...


class Greedy:
    """The likeliest token."""

    def begin(self, number: int) -> Draw:
        """No state."""
        return Draw(number)

    def choose(self, logits: Tensor, draws: Sequence[Draw]) -> Tensor:
        """The first of the largest logits of each row."""
        return logits.argmax(-1)
