"""Rows that are decoded together: what they share is prefilled once, and how they enter, go on and leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from mgtool.inference.attention import Prefix, View, shared_prefixes
from mgtool.inference.attention_at_once import WholeView
from mgtool.inference.prefix_store import Grid, PrefixStore

BLOCK = 64
"""Tokens by which the room for rows' own keys and values grows."""

Choose = Callable[[Tensor], Tensor]
"""(R, vocabulary) float32 logits -> (R,) int64, the tokens of R rows."""


class Prefill(NamedTuple):
    """Prompts of one group on their way to being rows.

    Attributes:
        key: the identity of the pictures and their boxes.
        prompts: n lists of token ids with placeholders.
        shared: tokens that all begin with; all of them in a prompt that is alone.
        visuals: of each picture that a prompt shows, (tokens, H).
        splice: prompts, and visual tokens in the order of their placeholders, -> embeddings as `MGLlava.splice` gives.
        begin: token ids that prompts begin with, and visual tokens, -> as `ServedModel.begin` gives.
    """

    key: tuple[str, ...]
    prompts: Sequence[Sequence[int]]
    shared: int
    visuals: Sequence[Tensor]
    splice: Callable[[Sequence[Sequence[int]], Sequence[Tensor]], Any]
    begin: Callable[[Sequence[int], Sequence[Tensor]], tuple[Prefix, Tensor]]


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
        count, width = len(self.rows), self.rows.width + 1
        numbers, ends = self.rows.numbers.to(self.keys.device), self.rows.lengths.to(self.keys.device)
        self.keys[numbers, :, ends] = key_states[:, :, 0]
        self.values[numbers, :, ends] = value_states[:, :, 0]
        return self.keys[:count, :, :width], self.values[:count, :, :width]

    def make_room(self, like: Tensor, rows: int, tokens: int) -> None:
        """Grow to hold so many rows and tokens."""
        has = self.keys.shape if self.is_initialized else (0, 0, 0, 0)
        if has[0] >= rows and has[2] >= tokens:
            return
        shape = (max(has[0], rows), like.shape[1], max(has[2], tokens), like.shape[3])
        keys, values = like.new_zeros(shape), like.new_zeros(shape)
        if self.is_initialized:
            keys[: has[0], :, : has[2]], values[: has[0], :, : has[2]] = self.keys, self.values
        self.keys, self.values, self.is_initialized = keys, values, True

    def put(self, first: int, keys: Tensor, values: Tensor) -> None:
        """Fill the rows from `first` on with (n, heads, T, d)."""
        end, width = first + len(keys), keys.shape[2]
        self.keys[first:end, :, :width], self.values[first:end, :, :width] = keys, values

    def move(self, source: int, target: int, length: int) -> None:
        """A row takes another's place."""
        for tensor in (self.keys, self.values):
            tensor[target, :, :length] = tensor[source, :, :length]


class Rows:
    """R prompts in the middle of decoding; row numbers run from 0 without holes.

    Args:
        layers: of the language model.
        device: of its weights.
        at_once: whether a step attends to all prefixes in one go, in as many operations as to one; group after group
            is faster on a CPU.

    Attributes:
        tokens: (R,) int64, chosen last and not in the cache yet.
        lengths: (R,) int64, tokens of each row's own in the cache.
        counts: the same numbers, for which no device is waited for.
        prefixes: of each row, the same object for those of a group.
    """

    def __init__(self, layers: int, device: torch.device, *, at_once: bool | None = None) -> None:
        self.layers = [OwnLayer(self) for _ in range(layers)]
        self.cache = Cache(layers=list(self.layers))
        self.tokens = self.lengths = self.numbers = torch.zeros(0, dtype=torch.int64, device=device)
        self.prefixes: list[Prefix] = []
        self.counts: list[int] = []
        self.width = 0
        self._store = PrefixStore() if (device.type != "cpu" if at_once is None else at_once) else None
        self._grid: Grid | None = None
        self._kept: tuple[Any, Prefix] | None = None

    def __len__(self) -> int:
        return len(self.prefixes)

    @property
    def held(self) -> int:
        """Tokens in the cache, a prefix counted once; with the places beyond it where all have as many."""
        if self._store is not None:
            return self._store.tokens + sum(self.counts)
        prefixes = {id(prefix): prefix.length for prefix in self.prefixes}
        return sum(prefixes.values()) + sum(self.counts)

    def enter(self, language_model: Any, prefill: Prefill, choose: Choose) -> None:
        """Add prompts and choose their first tokens: what they share is computed once, their ends as one batch."""
        ids, shared, splice = prefill.prompts, prefill.shared, prefill.splice
        if len(ids[0]) == shared:
            prefix, logits = prefill.begin(ids[0], prefill.visuals)
            self.add(prefix, None, self.lengths.new_zeros(1), choose(logits))
            return
        placed = sum(token < 0 for token in ids[0][:shared])
        prefix = self._remembered(prefill, placed)
        ends = splice([one[shared:] for one in ids], list(prefill.visuals[placed:]) * len(ids))
        positions, is_own = ends.position_ids + prefix.length, ends.attention_mask.bool()
        view = View([(slice(None), prefix)], positions, positions.where(is_own, -1))
        own = DynamicCache()
        with shared_prefixes(language_model):
            output = language_model(
                inputs_embeds=ends.inputs_embeds,
                position_ids=positions + prefix.offset,
                past_key_values=own,
                use_cache=True,
                logits_to_keep=1,
                view=view,
            )
        self.add(prefix, own, is_own.sum(-1), choose(output.logits[:, -1].float()))

    def advance(self, language_model: Any, choose: Choose) -> None:
        """Choose the next token of every row."""
        self._make_room(self.layers[0].keys, len(self), self.width + 1)
        starts, offsets = self._places()
        positions = (starts + self.lengths)[:, None]
        own = starts[:, None] + torch.arange(self.width + 1, device=self.lengths.device)
        if self._store is not None and self._grid is not None:
            view: View | WholeView = WholeView(self._store, self._grid, positions, own)
        else:
            view = View(self._groups(), positions, own)
        with shared_prefixes(language_model):
            output = language_model(
                input_ids=self.tokens[:, None],
                position_ids=positions + offsets[:, None],
                past_key_values=self.cache,
                use_cache=True,
                view=view,
            )
        self.lengths, self.width = self.lengths + 1, self.width + 1
        self.counts = [count + 1 for count in self.counts]
        self.tokens = choose(output.logits[:, -1].float())

    def add(self, prefix: Prefix, own: DynamicCache | None, lengths: Tensor, tokens: Tensor) -> None:
        """Add n rows whose keys and values are known.

        Args:
            prefix: what they share.
            own: their keys and values behind it, (n, heads, T, d) a layer, padded on the left; None for none.
            lengths: (n,) int64, tokens of `own`.
            tokens: (n,) int64, chosen last.
        """
        first, counts = len(self), lengths.tolist()
        like = own.layers[0].keys if own is not None else prefix.keys[0][None]
        self._make_room(like, first + len(tokens), max(self.width, *counts))
        if own is not None:
            for layer, filled in zip(self.layers, own.layers, strict=True):
                layer.put(first, *(_to_left(tensor, lengths) for tensor in (filled.keys, filled.values)))
        self.prefixes += [prefix] * len(tokens)
        self.counts += counts
        self._set(torch.cat([self.lengths, lengths]), torch.cat([self.tokens, tokens]))

    def leave(self, row: int) -> None:
        """Take a row out; the last one takes its number."""
        last = len(self) - 1
        if row != last:
            for layer in self.layers:
                layer.move(last, row, self.counts[last])
            self.lengths[row], self.tokens[row] = self.lengths[last], self.tokens[last]
            self.prefixes[row], self.counts[row] = self.prefixes[last], self.counts[last]
        self.prefixes.pop()
        self.counts.pop()
        self._set(self.lengths[:last], self.tokens[:last])

    def forget(self) -> None:
        """Give up what is kept for a group's other parts."""
        self._kept = None

    def _remembered(self, prefill: Prefill, placed: int) -> Prefix:
        """A group's prefix, with so many of its visuals; the last one is kept for the group's other parts."""
        ids = prefill.prompts[0][: prefill.shared]
        name = (prefill.key, tuple(ids))
        if self._kept is None or self._kept[0] != name:
            self._kept, prefix = None, Prefix([], [], 0)
            if ids:
                prefix, _ = prefill.begin(ids, prefill.visuals[:placed])
            self._kept = name, prefix
        return self._kept[1]

    def _set(self, lengths: Tensor, tokens: Tensor) -> None:
        self.lengths, self.tokens = lengths, tokens
        self.numbers = torch.arange(len(lengths), device=lengths.device)
        self.width = max(self.counts, default=0)
        self._grid = None

    def _make_room(self, like: Tensor, rows: int, tokens: int) -> None:
        for layer in self.layers:
            layer.make_room(like, rows, -(-tokens // BLOCK) * BLOCK)

    def _places(self) -> tuple[Tensor, Tensor]:
        """(R,) int64 each: tokens before each row's own, and what is added to its positions."""
        if self._store is None:
            new = self.lengths.new_tensor
            return new([one.length for one in self.prefixes]), new([one.offset for one in self.prefixes])
        if self._grid is None:
            self._store.keep([*self.prefixes, *([self._kept[1]] if self._kept else [])])
            self._grid = Grid(self._store, self.prefixes, self.lengths.device)
        return self._grid.starts, self._grid.offsets

    def _groups(self) -> list[tuple[slice | Tensor, Prefix]]:
        """Places of the rows of each prefix."""
        places: dict[int, list[int]] = {}
        for row, prefix in enumerate(self.prefixes):
            places.setdefault(id(prefix), []).append(row)
        return [(_selection(rows, self.lengths), self.prefixes[rows[0]]) for rows in places.values()]


def _selection(rows: Sequence[int], like: Tensor) -> slice | Tensor:
    """A slice where rows follow each other: it takes no copy."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return like.new_tensor(rows)


def _to_left(tensor: Tensor, lengths: Tensor) -> Tensor:
    """(n, heads, T, d) padded on the left -> padded on the right, with anything."""
    width = tensor.shape[2]
    columns = torch.arange(width, device=tensor.device) + (width - lengths.to(tensor.device))[:, None]
    return torch.take_along_dim(tensor, columns.clamp(max=width - 1)[:, None, :, None], dim=2)
