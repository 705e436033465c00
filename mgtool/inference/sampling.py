"""How the next token of each row is chosen."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from mgtool.inference.decoding import Decoding
from mgtool.inference.penalties import Penalty


@dataclass
class SamplerState:
    """What a sampler remembers of one row; a row that begins again gets a new one.

    Attributes:
        number: the prompt's.
        done: whether the answer is whole without an end token.
        logprobs: of the tokens so far, where they are asked for.
        options: log-probability of each option, where one token decides.
        generator: of a row's own random numbers.
        penalty: what the model's own configuration makes of its logits; None for nothing.
    """

    number: int
    done: bool = False
    logprobs: list[float] = field(default_factory=list)
    options: list[float] = field(default_factory=list)
    generator: random.Random | None = field(default=None, compare=False)
    penalty: Penalty | None = field(default=None, compare=False)


class Sampler(Protocol):
    """Chooses tokens for rows that are decoded together.

    Attributes:
        rows: prompts that each question becomes, numbered ``position * rows + row``.
        reads: whether something of every token is kept on the host, which then waits for each.
    """

    rows: int
    reads: bool

    def begin(self, number: int) -> SamplerState:
        """The state of a row whose prompt has this number."""
        ...

    def choose(self, logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
        """(R, vocabulary) float32 and the R rows' states, which it may change -> (R,) int64."""
        ...


class Greedy:
    """The likeliest token.

    Args:
        logprobs: keep the tokens' log-probabilities.
    """

    rows = 1

    def __init__(self, *, logprobs: bool = False) -> None:
        self.logprobs = self.reads = logprobs

    def begin(self, number: int) -> SamplerState:
        """No tokens yet."""
        return SamplerState(number)

    def choose(self, logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
        """The first of the largest logits of each row."""
        tokens = penalized(logits, states).argmax(-1)
        if self.logprobs:
            _note(logits, tokens, states)
        return tokens


class NucleusSampler:
    """Tokens at random, each row from a generator of its own, whatever rows it is decoded with.

    Args:
        decoding: temperature, top-p, seed, and the number of answers.
        name: a question's id, by its position.
    """

    def __init__(self, decoding: Decoding, name: Callable[[int], Any]) -> None:
        self.decoding, self.name = decoding, name
        self.rows, self.reads = decoding.samples, decoding.logprobs

    def begin(self, number: int) -> SamplerState:
        """A generator that seed, id and the number of the answer determine."""
        position, row = divmod(number, self.rows)
        seed = f"{self.decoding.seed}/{self.name(position)}/{row}"
        return SamplerState(number, generator=random.Random(seed))

    def choose(self, logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
        """Invert the distribution function, in the vocabulary's order, at one random number a row."""
        device, weighed = logits.device, penalized(logits, states)
        if torch.are_deterministic_algorithms_enabled():  # cumulative sums have none on a GPU
            logits, weighed = logits.cpu(), weighed.cpu()
        probabilities = (weighed.double() / self.decoding.temperature).softmax(-1)
        if self.decoding.top_p < 1:
            probabilities = nucleus(probabilities, self.decoding.top_p)
        below = probabilities.cumsum(-1)
        points = [state.generator.random() for state in states if state.generator is not None]
        wanted = torch.tensor(points, dtype=torch.float64, device=logits.device)[:, None] * below[:, -1:]
        # The first token whose sum passes the point; at the very end rounding must not step past the last one.
        last = probabilities.shape[-1] - 1 - probabilities.flip(-1).gt(0).int().argmax(-1)
        tokens = torch.searchsorted(below, wanted, right=True)[:, 0].minimum(last)
        if self.decoding.logprobs:
            _note(logits, tokens, states)
        return tokens.to(device)


class Choices:
    """An answer among options, by the probability of all of an option's tokens.

    Where every option is one token, a question is one row and that row's first logits decide. Else each option is
    a row of its own, whose tokens are given and whose probabilities are read.

    Args:
        options: K options' token ids, none of which begins another.
    """

    reads = True

    def __init__(self, options: Sequence[Sequence[int]]) -> None:
        self.options = options
        self.is_single = all(len(option) == 1 for option in options)
        self.rows = 1 if self.is_single else len(options)

    def begin(self, number: int) -> SamplerState:
        """No tokens yet."""
        return SamplerState(number)

    def choose(self, logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
        """The likeliest option, or the next token of the row's own option."""
        if self.is_single:
            return self._decide(logits, states)
        given = [self.options[state.number % self.rows] for state in states]
        places = [len(state.logprobs) for state in states]
        tokens = [option[place] for option, place in zip(given, places, strict=True)]
        _note(logits, torch.tensor(tokens, device=logits.device), states)
        for state, option in zip(states, given, strict=True):
            state.done = len(state.logprobs) == len(option)
        return torch.tensor(tokens, device=logits.device)

    def _decide(self, logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
        tokens = torch.tensor([option[0] for option in self.options], device=logits.device)
        scores = logits.log_softmax(-1)[:, tokens]
        for state, row in zip(states, scores.tolist(), strict=True):
            state.options, state.logprobs, state.done = row, [max(row)], True
        return tokens[scores.argmax(-1)]


def penalized(logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
    """(R, vocabulary) logits as the rows' penalties leave them; not for the probabilities that are told."""
    if all(state.penalty is None for state in states):
        return logits
    pairs = zip(logits, states, strict=True)
    return torch.stack([row if state.penalty is None else state.penalty(row) for row, state in pairs])


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Leave the likeliest tokens that reach `top_p` together, and set the rest to 0; (R, vocabulary) both.

    >>> nucleus(torch.tensor([[0.1, 0.5, 0.1, 0.3]]), 0.6).tolist() == torch.tensor([[0, 0.5, 0, 0.3]]).tolist()
    True
    """
    ordered, places = probabilities.sort(stable=True, dim=-1, descending=True)
    is_out = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(torch.zeros_like(is_out).scatter(-1, places, is_out), 0)


def option_ids(choices: Sequence[str], processor: Any) -> list[list[int]]:
    """Token ids of options as training had them; with the end of the answer where one option begins another.

    >>> begins([[1], [1, 2]]), begins([[1, 2], [1, 3]])
    (True, False)
    """
    tokenized = [processor.tokenizer.encode(choice, add_special_tokens=False) for choice in choices]
    end = [processor.eos_token_ids[-1]] if begins(tokenized) else []
    return [ids + end for ids in tokenized]


def begins(options: Sequence[Sequence[int]]) -> bool:
    """Whether one list begins another."""
    pairs = [(first, second) for first in options for second in options if first is not second]
    return any(list(first) == list(second)[: len(first)] for first, second in pairs)


def make_sampler(decoding: Decoding, processor: Any, name: Callable[[int], Any]) -> Sampler:
    """The sampler for some options.

    Args:
        decoding: the options.
        processor: the model's.
        name: a question's id, by its position.
    """
    if decoding.choices:
        return Choices(option_ids(decoding.choices, processor))
    return NucleusSampler(decoding, name) if decoding.temperature > 0 else Greedy(logprobs=decoding.logprobs)


def _note(logits: Tensor, tokens: Tensor, states: Sequence[SamplerState]) -> None:
    """Add the tokens' log-probabilities, of the model itself and not of the temperature."""
    values = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0].tolist()
    for state, value in zip(states, values, strict=True):
        state.logprobs.append(value)
