"""What batching costs: the same prompts answered together and each alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor

from mgtool.boxes.lookup import BoxSource
from mgtool.inference.loading import deterministic, load_model, load_processor
from mgtool.inference.pipeline import Answering, Items, make_engine
from mgtool.inference.plan import InferencePlan
from mgtool.inference.sampling import Greedy, SamplerState
from mgtool.inference.scheduler import Completion, Group


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
        self.reads = True
        self.logits: dict[int, list[Tensor]] = {}

    def begin(self, number: int) -> SamplerState:
        self.logits[number] = []
        return super().begin(number)

    def choose(self, logits: Tensor, states: Sequence[SamplerState]) -> Tensor:
        for state, row in zip(states, logits.cpu(), strict=True):
            self.logits[state.number].append(row.clone())
        return super().choose(logits, states)


def check_parity(plan: InferencePlan, items: Items, boxes: BoxSource, count: int) -> Parity:
    """Answer the first samples in both ways, greedily; those that cannot be asked do not count.

    Holds the logits of all their tokens: samples * tokens * vocabulary * 4 bytes.

    Args:
        plan: how to answer, on one device.
        items: positions and items.
        boxes: where boxes come from.
        count: samples.
    """
    answering = Answering(plan, load_processor(plan), boxes, None)
    differences, equal = [0.0], 0
    with deterministic(plan.options.deterministic):
        groups = [group for group in answering.groups(itertools.islice(items, count)) if group is not None]
        model, batch_size = load_model(plan), plan.options.batch_size
        together = _answered(plan, model, answering.processor, groups, batch_size)
        for single in (group.part(at, at + 1) for group in groups for at in range(len(group.prompts))):
            [(number, alone)] = _answered(plan, model, answering.processor, [single], 1).items()
            if number in together:
                batched = together.pop(number)
                equal += batched.ids == alone.ids
                differences.append(_largest_difference(batched, alone))
    compared = len(differences) - 1
    return Parity(compared, equal / max(compared, 1), max(differences), batch_size, plan.dtype)


class _Recorded(NamedTuple):
    ids: list[int]
    logits: list[Tensor]


def _answered(
    plan: InferencePlan, model: Any, processor: Any, groups: Sequence[Group], batch_size: int | None
) -> dict[int, _Recorded]:
    recorder = _Recorder()
    outcomes = make_engine(plan, model, processor, recorder, batch_size=batch_size).generate(groups)
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
