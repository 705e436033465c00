"""A decoding step over buffers that stay where they are, so that a GPU can replay it as one graph.

Rows, slots, prefixes and the rows' own tokens are rounded up to a few shapes. What a step reads lies in buffers of its
shape, which are filled before; it waits for nothing, and doing it twice changes nothing. Without a graph the same step
is computed call by call.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mgtool.inference.attention import shared_prefixes
from mgtool.inference.attention_at_once import WholeView
from mgtool.inference.prefix_store import Grid, GridShape, Placement, PrefixStore

MOST_GRAPHS = 48
"""Captured steps that are kept; those not replayed for longest are given up first."""
SEEN_BEFORE = 2
"""Steps of a shape that are computed before one is captured."""
PREFIX_BLOCK = 256
"""Tokens to which prefixes are rounded up."""

_logger = logging.getLogger(__name__)

Replay = Callable[[], Tensor]
"""Computes a step anew from what its buffers hold; the tensor that it gives is the same each time."""


class Capture(Protocol):
    """Records a step."""

    def __call__(self, step: Callable[[], Tensor]) -> Replay:
        """A step that was computed before -> its replay.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


class CudaGraphs:
    """Steps as CUDA graphs, in one pool of memory: only one step's logits are needed at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], Tensor]) -> Replay:
        """As `Capture`. Threads that prepare pictures may ask for memory meanwhile."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = step()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay


class StepShape(NamedTuple):
    """What steps that are computed alike have in common: the grid, and places for each row's own tokens."""

    grid: GridShape
    width: int

    @classmethod
    def holding(cls, smallest: GridShape, width: int, room: int) -> StepShape:
        """The next larger of a few shapes.

        Args:
            smallest: the grid that is needed.
            width: tokens of a row's own.
            room: that the store has for a prefix.
        """
        rows, slots = rounded(smallest.rows), rounded(smallest.slots)
        longest = min(room, -(-smallest.longest // PREFIX_BLOCK) * PREFIX_BLOCK)
        return cls(GridShape(rows, slots, 1 << (smallest.places - 1).bit_length(), longest), width)


def rounded(count: int) -> int:
    """The next larger of 1, 2, 4, 8, then of the multiples of 8, from 64 on of 32.

    >>> [rounded(count) for count in (1, 3, 9, 64, 65, 256)]
    [1, 4, 16, 64, 96, 256]
    """
    if count <= 8:
        return 1 << (count - 1).bit_length()
    block = 8 if count <= 64 else 32
    return -(-count // block) * block


class StepInputs:
    """What a step of one shape reads.

    Args:
        shape: of the step.
        device: of the language model.

    Attributes:
        grid: of the rows.
        tokens, lengths: (R,) int64, of each row; of rows that are not there 0.
        numbers: (R,) int64, from 0 on.
    """

    def __init__(self, shape: StepShape, device: torch.device) -> None:
        self.shape, rows = shape, shape.grid.rows
        self._grid_numbers = torch.zeros(sum(shape.grid.sizes), dtype=torch.int64, device=device)
        self.grid = Grid(shape.grid, self._grid_numbers)
        self._states = torch.zeros(2, rows, dtype=torch.int64, device=device)
        self.tokens, self.lengths = self._states
        self.numbers = torch.arange(rows, device=device)
        self._filled: Placement | None = None
        self.replay: Replay | None = None
        self.steps = 0

    @property
    def width(self) -> int:
        """Places of each row's own tokens."""
        return self.shape.width

    def fill(self, tokens: Tensor, lengths: Tensor, placement: Placement) -> None:
        """Put in the rows' numbers; where they stand only when that is new."""
        if placement is not self._filled:
            self._grid_numbers.copy_(torch.tensor(placement.numbers(self.shape.grid)))
            self._states.zero_()
            self._filled = placement
        self.tokens[: len(tokens)], self.lengths[: len(lengths)] = tokens, lengths

    def compute(self, language_model: Any, cache: Any, store: PrefixStore) -> Tensor:
        """(R, vocabulary) float32 logits behind each row's token, which the cache then has."""
        positions = (self.grid.starts + self.lengths)[:, None]
        own = self.grid.starts[:, None] + torch.arange(self.width, device=positions.device)
        with shared_prefixes(language_model):
            output = language_model(
                input_ids=self.tokens[:, None],
                position_ids=positions + self.grid.offsets[:, None],
                past_key_values=cache,
                use_cache=True,
                view=WholeView(store, self.grid, positions, own),
            )
        logits: Tensor = output.logits[:, -1].float()
        return logits


class StaticSteps:
    """Steps by their shapes, each recorded where the device has graphs.

    Args:
        capture: records them; None computes every step call by call.
    """

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self._inputs: OrderedDict[StepShape, StepInputs] = OrderedDict()
        self._read: Sequence[Tensor] = ()

    def inputs(self, shape: StepShape, device: torch.device, read: Sequence[Tensor]) -> StepInputs:
        """The buffers of a shape.

        Args:
            shape: of the step.
            device: of the language model.
            read: what a step reads besides; where one is new, nothing that was recorded holds.
        """
        if [*map(id, read)] != [*map(id, self._read)]:
            self._inputs.clear()
            self._read = read
        if shape not in self._inputs:
            self._inputs[shape] = StepInputs(shape, device)
        self._inputs.move_to_end(shape)
        while len(self._inputs) > MOST_GRAPHS:
            self._inputs.popitem(last=False)
        return self._inputs[shape]

    def run(self, inputs: StepInputs, step: Replay) -> Tensor:
        """The logits of a step over some buffers."""
        inputs.steps += 1
        if inputs.replay is None and self.capture is not None and inputs.steps > SEEN_BEFORE:
            inputs.replay = self._captured(step)
        return step() if inputs.replay is None else inputs.replay()

    def _captured(self, step: Replay) -> Replay | None:
        """A recorded step; after one that cannot be recorded none is tried again."""
        try:
            return None if self.capture is None else self.capture(step)
        except RuntimeError as error:
            _logger.warning("steps are not replayed as graphs: %s", (str(error) or "unknown").splitlines()[0])
            self.capture = None
            return None
