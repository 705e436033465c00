"""Pictures, answers of different lengths, and the counting of operations, for tests of the engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from mgtool.inference.sampling import Greedy
from mgtool.model import PlacedPicture

_SCRIPT = Path(__file__).parent.parent / "speed" / "operations.py"


def picture(seed: int) -> PlacedPicture:
    """A picture of noise with as many boxes as its number and one more."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 97, (seed + 1, 2, 2), generator=generator).sort(dim=1).values
    return PlacedPicture(torch.randn(3, 96, 96, generator=generator), corners.reshape(-1, 4).float(), ())


class Lengths(Greedy):
    """Every answer has a length of its own, so that rows leave at different times."""

    def choose(self, logits, states):
        for state in states:
            state.logprobs.append(0.0)
            state.done = len(state.logprobs) > state.number * 5 % 7
        return super().choose(logits, states)


def operations_script() -> Any:
    """`tests/speed/operations.py`."""
    spec = importlib.util.spec_from_file_location("operations", _SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script
