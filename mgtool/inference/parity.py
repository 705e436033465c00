"""What batching costs: the same prompts answered together and each alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from mgtool.boxes.lookup import BoxSource
from mgtool.inference.engine import Completion, Group
from mgtool.inference.loading import deterministic, load_model, load_processor
from mgtool.inference.options import Request
from mgtool.inference.pipeline import Asking, Items, make_engine
from mgtool.inference.sampling import Draw, Greedy


@dataclass(frozen=True)
class Parity:
    """How batched greedy answers compare with answers one at a time, nothing shared.

    Attributes:
        samples: that both ways answered.
        equal: share of them with the same tokens.
        largest_difference: of two logits for the same token after the same tokens.
        batch_size: most prompts decoded together; None for what the device is good for.
        dtype: of the weights.
    """

    samples: int
    equal: float
    largest_difference: float
    batch_size: int | None
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


class _Recorder(Greedy):
    """Greedy, keeping every row's logits, (tokens, vocabulary) float32."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: dict[int, list[Tensor]] = {}

    def begin(self, number: int) -> Draw:
        self.logits[number] = []
        return super().begin(number)

    def choose(self, logits: Tensor, draws: Sequence[Draw]) -> Tensor:
        for draw, row in zip(draws, logits.cpu(), strict=True):
            self.logits[draw.number].append(row.clone())
        return super().choose(logits, draws)


def check_parity(request: Request, items: Items, boxes: BoxSource, count: int) -> Parity:
    """Answer the first samples in both ways, greedily; those that cannot be asked do not count.

    Holds the logits of all their tokens: samples * tokens * vocabulary * 4 bytes.

    Args:
        request: what is asked of whom, on one device.
        items: positions and items.
        boxes: where boxes come from.
        count: samples.
    """
    asking = Asking(request, load_processor(request), boxes, None, lambda position, result: None)
    with deterministic(request.deterministic):
        groups = list(asking.groups(itertools.islice(items, count)))
        model = load_model(request)
        together = _answered(request, model, asking.processor, groups)
        differences, equal = [0.0], 0
        for single in (group.part(at, at + 1) for group in groups for at in range(len(group.prompts))):
            [(number, alone)] = _answered(replace(request, batch_size=1), model, asking.processor, [single]).items()
            if number in together:
                batched = together.pop(number)
                equal += batched.ids == alone.ids
                differences.append(_largest_difference(batched, alone))
    compared = len(differences) - 1
    return Parity(compared, equal / max(compared, 1), max(differences), request.batch_size, request.dtype)


class _Recorded(NamedTuple):
    ids: list[int]
    logits: list[Tensor]


def _answered(request: Request, model: Any, processor: Any, groups: Sequence[Group]) -> dict[int, _Recorded]:
    recorder = _Recorder()
    outcomes = make_engine(request, model, processor, recorder).generate(groups)
    return {
        number: _Recorded(outcome.ids, recorder.logits[number])
        for number, outcome in outcomes
        if isinstance(outcome, Completion)
    }


def _largest_difference(one: _Recorded, other: _Recorded) -> float:
    """Of the logits up to and with the first token that differs."""
    pairs = zip(one.ids, other.ids, strict=False)
    shared = 1 + sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    rows = list(zip(one.logits, other.logits, strict=False))[:shared]
    return max((first - second).abs().max().item() for first, second in rows)
