"""Rows that are decoded together: what they share is prefilled once, and how they enter, go on and leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from mgtool.inference.attention import Prefix, shared_prefixes
from mgtool.inference.prefill import Prefill, Prefixes, compute_ends, view_of
from mgtool.inference.prefix_store import Placement, PrefixStore
from mgtool.inference.scheduler import moves_for
from mgtool.inference.served import ServedModel
from mgtool.inference.static_step import Capture, StaticSteps, StepInputs, StepShape

BLOCK = 64
"""Tokens by which the room for rows' own keys and values grows."""

Choose = Callable[[Tensor], Tensor]
"""(R, vocabulary) float32 logits -> (R,) int64, the tokens of R rows."""


class OwnLayer(DynamicLayer):
    """One layer's keys and values of the rows' own tokens, (room for rows, heads, room for tokens, d).

    Every row begins at column 0, and a step writes in place, so that nothing is moved while rows are decoded.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self.is_initialized: bool = False
        self.rows = rows

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put (R, heads, 1, d) behind each row; gives (R, heads, W, d) of all its own."""
        step = self.rows.step
        numbers, ends = step.numbers.to(self.keys.device), step.lengths.to(self.keys.device)
        self.keys[numbers, :, ends] = key_states[:, :, 0]
        self.values[numbers, :, ends] = value_states[:, :, 0]
        return self.keys[: len(numbers), :, : step.width], self.values[: len(numbers), :, : step.width]

    def make_room(self, like: Tensor, rows: int, tokens: int) -> None:
        """Grow to hold so many rows and tokens."""
        has = self.keys.shape if self.is_initialized else (0, 0, 0, 0)
        if has[0] >= rows and has[2] >= tokens:
            return
        # a quarter more at a time, so that all that is there is seldom moved
        rows = has[0] if rows <= has[0] else max(rows, has[0] + has[0] // 4)
        shape = (rows, like.shape[1], max(has[2], tokens), like.shape[3])
        keys, values = like.new_zeros(shape), like.new_zeros(shape)
        if self.is_initialized:
            keys[: has[0], :, : has[2]], values[: has[0], :, : has[2]] = self.keys, self.values
        self.keys, self.values, self.is_initialized = keys, values, True

    def put(self, first: int, keys: Tensor, values: Tensor) -> None:
        """Fill the rows from `first` on with (n, heads, T, d)."""
        end, width = first + len(keys), keys.shape[2]
        self.keys[first:end, :, :width], self.values[first:end, :, :width] = keys, values

    def move(self, sources: Tensor, targets: Tensor, width: int) -> None:
        """Rows take others' places, with so many tokens each."""
        sources, targets = sources.to(self.keys.device), targets.to(self.keys.device)
        for tensor in (self.keys, self.values):
            tensor[targets, :, :width] = tensor[sources, :, :width]


class Rows:
    """R prompts in the middle of decoding; row numbers run from 0 without holes.

    Args:
        layers: of the language model.
        device: of its weights.
        at_once: whether a step attends to all prefixes in one go, in as many operations as to one; group after group
            is faster on a CPU.
        capture: records the steps at once; None where the device replays none.

    Attributes:
        tokens: (R,) int64, chosen last and not in the cache yet.
        lengths: (R,) int64, tokens of each row's own in the cache.
        counts: the same numbers, for which no device is waited for.
        prefixes: of each row, the same object for those of a group.
        step: numbers and lengths of the rows of a step, and its places for each row's own tokens.
    """

    def __init__(
        self, layers: int, device: torch.device, *, at_once: bool | None = None, capture: Capture | None = None
    ) -> None:
        self.layers = [OwnLayer(self) for _ in range(layers)]
        self.cache = Cache(layers=list(self.layers))
        self.tokens = self.lengths = self.numbers = torch.zeros(0, dtype=torch.int64, device=device)
        self.prefixes: list[Prefix] = []
        self.counts: list[int] = []
        self.width = 0
        self._store = PrefixStore() if (device.type != "cpu" if at_once is None else at_once) else None
        self._steps = StaticSteps(capture)
        self._placement: Placement | None = None
        self.step: StepInputs | _Step = _Step(self.numbers, self.lengths, 0)
        self._prefixes = Prefixes()

    def __len__(self) -> int:
        return len(self.prefixes)

    @property
    def held(self) -> int:
        """Tokens in the cache, a prefix counted once; with the places beyond it where all have as many."""
        if self._store is not None:
            return self._store.tokens_with(self.prefixes) + sum(self.counts)
        prefixes = {id(prefix): prefix.length for prefix in self.prefixes}
        return sum(prefixes.values()) + sum(self.counts)

    def enter(self, model: ServedModel, prefills: Sequence[Prefill], choose: Choose) -> None:
        """Add prompts and choose their first tokens: what groups share is computed once, all ends as one batch.

        Args:
            model: computes them.
            prefills: of groups; first those whose prompts are shared whole.
            choose: is given the rows in their order.
        """
        prefixes, begun = self._prefixes.of(model, prefills)
        count = sum(one.is_whole for one in prefills)
        logits = [begun[:count]] if begun is not None and count else []
        ends = None
        if count < len(prefills):
            ends = compute_ends(model, prefills[count:], prefixes[count:], self._store)
            logits.append(ends.logits)
        tokens = choose(torch.cat(logits))
        if count:
            self.add(prefixes[:count], None, self.lengths.new_zeros(count), tokens[:count])
        if ends is not None:
            of_rows = [one for one, many in zip(prefixes, prefills, strict=True) for _ in many.group.prompts][count:]
            self.add(of_rows, ends.cache, ends.lengths, tokens[count:])

    def advance(self, language_model: Any, choose: Choose) -> None:
        """Choose the next token of every row."""
        logits = self._in_turn(language_model) if self._store is None else self._at_once(language_model, self._store)
        self.lengths, self.width = self.lengths + 1, self.width + 1
        self.counts = [count + 1 for count in self.counts]
        self.tokens = choose(logits)

    def _in_turn(self, language_model: Any) -> Tensor:
        """(R, vocabulary) float32, attending to one group's prefix after the other."""
        self._make_room([layer.keys for layer in self.layers], len(self), self.width + 1)
        self.step = _Step(self.numbers, self.lengths, self.width + 1)
        starts = self.lengths.new_tensor([one.length for one in self.prefixes])
        offsets = self.lengths.new_tensor([one.offset for one in self.prefixes])
        positions = (starts + self.lengths)[:, None]
        own = starts[:, None] + torch.arange(self.width + 1, device=self.lengths.device)
        with shared_prefixes(language_model):
            output = language_model(
                input_ids=self.tokens[:, None],
                position_ids=positions + offsets[:, None],
                past_key_values=self.cache,
                use_cache=True,
                view=view_of(self.prefixes, None, positions, own),
            )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _at_once(self, language_model: Any, store: PrefixStore) -> Tensor:
        """(R, vocabulary) float32, attending to all prefixes in one go."""
        if self._placement is None:
            store.keep([*self.prefixes, *([self._prefixes.kept[1]] if self._prefixes.kept else [])])
            self._placement = Placement.of(store, [*self.prefixes])
        width = -(-(self.width + 1) // BLOCK) * BLOCK
        shape = StepShape.holding(self._placement.shape, width, store.room)
        self._make_room([layer.keys for layer in self.layers], shape.grid.rows, width)
        store.make_slots(shape.grid.slots)
        inputs = self._steps.inputs(shape, self.lengths.device, (self.layers[0].keys, *store.keys[:1]))
        inputs.fill(self.tokens, self.lengths, self._placement)
        self.step = inputs
        logits = self._steps.run(inputs, lambda: inputs.compute(language_model, self.cache, store))
        return logits[: len(self)]

    def add(self, prefixes: Sequence[Prefix], own: DynamicCache | None, lengths: Tensor, tokens: Tensor) -> None:
        """Add n rows whose keys and values are known.

        Args:
            prefixes: of each row.
            own: their keys and values behind it, (n, heads, T, d) a layer, padded on the left; None for none.
            lengths: (n,) int64, tokens of `own`.
            tokens: (n,) int64, chosen last.
        """
        first, counts = len(self), lengths.tolist()
        likes = prefixes[0].keys if own is None else [layer.keys[0] for layer in own.layers]
        self._make_room([one[None] for one in likes], first + len(tokens), max(self.width, *counts))
        if own is not None:
            for layer, filled in zip(self.layers, own.layers, strict=True):
                layer.put(first, *(_to_left(tensor, lengths) for tensor in (filled.keys, filled.values)))
        if self._store is None:
            for prefix in {id(one): one for one in prefixes}.values():
                prefix.turn()
        self.prefixes += prefixes
        self.counts += counts
        self._set(torch.cat([self.lengths, lengths]), torch.cat([self.tokens, tokens]))

    def leave(self, rows: Sequence[int]) -> None:
        """Take rows out; the last ones take their numbers, as `moves_for` says."""
        moves, kept = moves_for(rows, len(self)), len(self) - len(rows)
        if moves:
            sources, targets = self.lengths.new_tensor(moves).T
            for layer in self.layers:
                layer.move(sources, targets, max(self.counts[source] for source, _ in moves))
            self.lengths[targets], self.tokens[targets] = self.lengths[sources], self.tokens[sources]
        for source, target in moves:
            self.prefixes[target], self.counts[target] = self.prefixes[source], self.counts[source]
        del self.prefixes[kept:], self.counts[kept:]
        self._set(self.lengths[:kept], self.tokens[:kept])

    def forget(self) -> None:
        """Give up what is kept for a group's other parts."""
        self._prefixes.kept = None

    def _set(self, lengths: Tensor, tokens: Tensor) -> None:
        self.lengths, self.tokens = lengths, tokens
        self.numbers = torch.arange(len(lengths), device=lengths.device)
        self.width = max(self.counts, default=0)
        self._placement = None

    def _make_room(self, likes: Sequence[Tensor], rows: int, tokens: int) -> None:
        for layer, like in zip(self.layers, likes, strict=True):
            layer.make_room(like, rows, -(-tokens // BLOCK) * BLOCK)


class _Step(NamedTuple):
    """As the attributes of `StepInputs` of these names."""

    numbers: Tensor
    lengths: Tensor
    width: int


def _to_left(tensor: Tensor, lengths: Tensor) -> Tensor:
    """(n, heads, T, d) padded on the left -> padded on the right, with anything."""
    width = tensor.shape[2]
    columns = torch.arange(width, device=tensor.device) + (width - lengths.to(tensor.device))[:, None]
    return torch.take_along_dim(tensor, columns.clamp(max=width - 1)[:, None, :, None], dim=2)
