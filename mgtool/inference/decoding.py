"""How tokens are chosen from what the model gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mgtool.errors import UsageError
from mgtool.inference.options import InferOptions


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Greedy decoding, sampling, or a choice among options.

    Attributes:
        temperature: of sampling; 0 takes the likeliest token.
        top_p: sample among the likeliest tokens that have this probability together.
        seed: of sampling; together with a sample's id and the number of its answer it fixes the answer.
        samples: answers to each question.
        stop: texts that end an answer, and are not part of it.
        choices: the options that an answer must be one of.
        logprobs: keep the log-probability of each token.
    """

    temperature: float = InferOptions.temperature
    top_p: float = InferOptions.top_p
    seed: int = InferOptions.seed
    samples: int = InferOptions.num_samples
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    logprobs: bool = InferOptions.logprobs

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise UsageError("top_p", f"{self.top_p:g}: give a number over 0 and up to 1")
        if self.temperature < 0:
            raise UsageError("temperature", f"{self.temperature:g}: give 0 for greedy answers, or more")
        given = {"top_p": self.top_p < 1, "seed": self.seed != 0, "num_samples": self.samples > 1}
        if self.temperature == 0 and any(given.values()):
            raise UsageError(_first(given), "is of sampling: add `temperature`, for instance `temperature` 0.7")
        if self.choices:
            self._check_choices()
        if "" in self.stop:
            raise UsageError("stop", "takes a text of at least one character")

    def _check_choices(self) -> None:
        given = {"temperature": self.temperature > 0, "stop": bool(self.stop), "logprobs": self.logprobs}
        if any(given.values()):
            raise UsageError(
                "choices", f"scores every option, so `{_first(given)}` changes nothing: leave one of them out"
            )
        if len(self.choices) < 2 or len(set(self.choices)) < len(self.choices) or "" in self.choices:
            raise UsageError("choices", f"{','.join(self.choices)}: give at least two different options, as in A,B,C,D")

    def identity(self) -> dict[str, Any]:
        """What answers depend on: the fields that are not their defaults."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Decoding, name)}


def _first(given: Mapping[str, bool]) -> str:
    return next(name for name, is_given in given.items() if is_given)
