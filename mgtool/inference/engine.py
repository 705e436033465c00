"""Answers to many prompts: one encoding for each picture, one prefill for what prompts share."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from mgtool.errors import ItemError
from mgtool.inference.attention import Prefix, View, shared_prefixes
from mgtool.inference.memory import is_out_of_memory, is_scarce, token_budget
from mgtool.inference.prefix_support import shares_prefixes
from mgtool.inference.rows import Rows
from mgtool.inference.rows_alone import AloneRows
from mgtool.inference.sampling import Chooser, Draw, Greedy
from mgtool.model.config import IMAGE_TOKEN_ID
from mgtool.model.processor import PlacedPicture

VISUALS_KEPT = 8
"""Pictures whose tokens are kept for later groups."""
MOST_ROWS = {"cpu": 64, "cuda": 256}
"""Rows beyond which a step costs as much more as it answers more."""
GROUPS_A_STEP = {"cpu": 1}
"""Groups that are prefilled between two steps; a CPU takes so long for one that the other rows' answers would wait."""
SMALLEST_PART = 8
"""Prompts of a group that are worth prefilling before there is room for all of it."""
_NO_TOKEN = -1


@dataclass(frozen=True)
class Group:
    """Prompts that show the same pictures with the same boxes.

    Attributes:
        key: the identity of the pictures and their boxes.
        pictures: in the order in which the prompts show them.
        numbers: N names of the prompts, for the caller.
        prompts: N lists of token ids with placeholders.
        is_video: the pictures are the frames of one video, at one placeholder.
        shared: tokens whose keys and values the prompts share with those of the group that this is a part of; None
            for a whole group.
    """

    key: tuple[str, ...]
    pictures: Sequence[PlacedPicture]
    numbers: Sequence[int]
    prompts: Sequence[Sequence[int]]
    is_video: bool = False
    shared: int | None = None

    @property
    def common(self) -> int:
        """Tokens that the prompts share."""
        return shared_length(self.prompts) if self.shared is None else self.shared

    def part(self, begin: int, end: int | None = None) -> Group:
        """Some of the prompts, which go on sharing what the whole group shares."""
        numbers, prompts = self.numbers[begin:end], self.prompts[begin:end]
        return replace(self, numbers=numbers, prompts=prompts, shared=self.common)

    def alone(self, at: int) -> Group:
        """One prompt, which shares nothing."""
        return replace(self, numbers=[self.numbers[at]], prompts=[self.prompts[at]], shared=None)


class Completion(NamedTuple):
    """An answer's token ids, the end token included, why it ended, and what the chooser noted."""

    ids: list[int]
    finish_reason: Literal["stop", "length"]
    draw: Draw


Outcome = tuple[int, Completion | ItemError]


@dataclass
class _Row:
    prompt: Group
    limit: int
    draw: Draw
    ids: list[int] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.prompt.numbers[0]


class Engine:
    """Continuous batches over a stream of groups.

    Args:
        model: in evaluation mode, on its device.
        processor: the model's.
        max_new_tokens: limit of an answer.
        batch_size: most prompts that are decoded together, None for what the device is good for; halved for good
            where memory does not suffice. With 1, every prompt is computed alone and shares nothing but its pictures.
        chooser: of tokens; greedy where there is none.
        stops: texts that end an answer, beside the template's.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        max_new_tokens: int,
        batch_size: int | None = None,
        chooser: Chooser | None = None,
        stops: Sequence[str] = (),
    ) -> None:
        self.model, self.processor = model, processor
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size or MOST_ROWS.get(model.device.type, 64)
        self.token_budget = token_budget(model)
        self._shares = batch_size != 1
        self.chooser: Chooser = chooser or Greedy()
        self._ends = {*processor.eos_token_ids, *_special_tokens(stops, processor.tokenizer)}
        self._stops = [*processor.stop_strings, *stops]
        # A token is a byte at least; one more begins within a word, where tokenizers drop a space.
        self._stop_tokens = max((len(stop.encode()) for stop in self._stops), default=0) + 1
        self._visuals: OrderedDict[tuple[str, ...], list[Tensor]] = OrderedDict()
        self._supply: Iterator[Group] = iter(())
        self._is_ready: Callable[[], bool] = lambda: True
        self._waiting: deque[Group] = deque()
        self._running: list[_Row] = []
        self._rows = self._no_rows()
        self._prefix: tuple[Any, Prefix] | None = None
        self._ready: list[Outcome] = []

    def generate(self, groups: Iterable[Group], is_ready: Callable[[], bool] = lambda: True) -> Iterator[Outcome]:
        """An outcome for every prompt, in the order in which they end.

        Args:
            groups: drawn when there is room.
            is_ready: whether the next one can be had without waiting; else rows that run go on without it.
        """
        self._supply, self._is_ready = iter(groups), is_ready
        while self._fill() or self._running:
            yield from self.step()

    def _no_rows(self) -> Rows | AloneRows:
        if not shares_prefixes(self.model.language_model):
            return AloneRows(self.model.device)
        return Rows(self.model.config.text_config.num_hidden_layers, self.model.device)

    @property
    def _vision_tokens(self) -> int:
        return int(self.model.config.low_grid) ** 2

    @torch.inference_mode()
    def step(self) -> list[Outcome]:
        """Admit the groups that fit, choose a token for every row, give the answers that ended."""
        self._schedule()
        self._run()
        return self._postprocess()

    def _fill(self) -> bool:
        """Whether a group waits, drawing one from the stream where none does."""
        if not self._waiting and (self._is_ready() or not self._running):
            for group in itertools.islice(self._supply, 1):
                parts = [group.alone(at) for at in range(len(group.prompts))]
                self._waiting.extend([group.part(0)] if self._shares else parts)
        return bool(self._waiting)

    def _schedule(self) -> None:
        """Prefill groups while there is room, splitting one that is larger than a batch."""
        for _ in range(GROUPS_A_STEP.get(self.model.device.type, self.batch_size)):
            if len(self._running) >= self.batch_size or not self._fill():
                return
            room = self._room(self._waiting[0])
            if room < min(len(self._waiting[0].prompts), SMALLEST_PART) and self._running:
                return
            group = self._waiting.popleft()
            if len(group.prompts) > room:
                self._waiting.appendleft(group.part(room))
                group = group.part(0, room)
            try:
                self._admit(group)
            except (RuntimeError, ValueError, IndexError) as error:
                self._retreat(group, error)

    def _room(self, group: Group) -> int:
        """Prompts of a group that rows and tokens are left for; 1 at least where nothing runs."""
        longest = max(map(len, group.prompts)) - group.common + self.max_new_tokens
        shared = group.common + sum(len(picture.boxes) + self._vision_tokens for picture in group.pictures)
        reserved = sum(row.limit - len(row.ids) for row in self._running)
        left = self.token_budget - self._rows.held - reserved - shared
        room = min(self.batch_size - len(self._running), left // longest)
        return max(room, 0 if self._running else 1)

    def _admit(self, group: Group) -> None:
        visuals = self._see(group)
        singles = [group.part(at, at + 1) for at in range(len(group.prompts))]
        begun = [self._begin(single, visuals) for single in singles]
        rows = [row for row in begun if isinstance(row, _Row)]
        if rows:
            self._prefill(rows, visuals, group.common)
            self._running += rows
            _note(rows, self._rows.tokens[-len(rows) :])
            self._retire()
        failed = [(one.numbers[0], bad) for one, bad in zip(singles, begun, strict=True) if isinstance(bad, ItemError)]
        self._ready += failed

    def _begin(self, prompt: Group, visuals: Sequence[Tensor]) -> _Row | ItemError:
        """A row with the number of tokens that there is room for; the reason where there is none."""
        length = sum(token >= 0 for token in prompt.prompts[0]) + sum(map(len, visuals))
        # Eight frames are more tokens than most language models name, and the published model was shown them.
        longest = None if prompt.is_video else getattr(self.model.config.text_config, "max_position_embeddings", None)
        draw = self.chooser.begin(prompt.numbers[0])
        if longest is None:
            return _Row(prompt, self.max_new_tokens, draw)
        if length >= longest:
            detail = f"{length} tokens with those of pictures and boxes; the model takes {longest}"
            return ItemError("prompt_too_long", detail)
        return _Row(prompt, min(self.max_new_tokens, longest - length), draw)

    def _see(self, group: Group) -> list[Tensor]:
        """The visual tokens of a group's pictures, (tokens, H) each; those of the last pictures are kept."""
        if not group.pictures:
            return []
        if group.key not in self._visuals:
            counts = [len(group.pictures)] if group.is_video else None
            # From pinned memory, each goes to the device while this thread goes on.
            pixels = [picture.pixels.to(self.model.device, non_blocking=True) for picture in group.pictures]
            pictures = [one._replace(pixels=moved) for one, moved in zip(group.pictures, pixels, strict=True)]
            batch = self.processor.collate([[IMAGE_TOKEN_ID]], pictures, counts)
            batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
            seen = self.model.see(batch["pixel_values"], batch["boxes"], batch["box_counts"], batch["frame_counts"])
            self._visuals[group.key] = list(seen)
        self._visuals.move_to_end(group.key)
        while len(self._visuals) > VISUALS_KEPT:
            self._visuals.popitem(last=False)
        return self._visuals[group.key]

    def _prefill(self, rows: Sequence[_Row], visuals: Sequence[Tensor], shared: int) -> None:
        """What the prompts share is computed once, their ends as one batch over it; the rows enter."""
        prompts = [row.prompt.prompts[0] for row in rows]
        if isinstance(self._rows, AloneRows):
            whole = [self._splice([ids], visuals).inputs_embeds for ids in prompts]
            self._rows.enter(self.model.language_model, whole, lambda logits: self._choose(logits, rows))
            return
        shown = sum(token < 0 for token in prompts[0][:shared])
        if len(prompts[0]) == shared:
            prefix, logits = self._prefill_shared(prompts[0], visuals)
            self._rows.enter(prefix, None, self._rows.lengths.new_zeros(1), self._choose(logits, rows))
            return
        prefix = self._remembered(rows[0].prompt.key, prompts[0][:shared], visuals[:shown])
        ends = self._splice([ids[shared:] for ids in prompts], list(visuals[shown:]) * len(prompts))
        positions, is_own = ends.position_ids + prefix.length, ends.attention_mask.bool()
        view = View([(slice(None), prefix)], positions, positions.where(is_own, -1))
        own = DynamicCache()
        with shared_prefixes(self.model.language_model):
            output = self.model.language_model(
                inputs_embeds=ends.inputs_embeds,
                position_ids=positions,
                past_key_values=own,
                use_cache=True,
                logits_to_keep=1,
                view=view,
            )
        self._rows.enter(prefix, own, is_own.sum(-1), self._choose(output.logits[:, -1].float(), rows))

    def _remembered(self, key: tuple[str, ...], ids: Sequence[int], visuals: Sequence[Tensor]) -> Prefix:
        """A group's prefix; the last one is kept for the group's other parts."""
        name = (key, tuple(ids))
        if self._prefix is None or self._prefix[0] != name:
            self._prefix = None
            self._prefix = name, self._prefill_shared(ids, visuals)[0] if ids else Prefix([], [], 0)
        return self._prefix[1]

    def _prefill_shared(self, ids: Sequence[int], visuals: Sequence[Tensor]) -> tuple[Prefix, Tensor]:
        """Keys and values of tokens that rows begin with, and the logits behind them, (1, vocabulary) float32."""
        cache = DynamicCache()
        embeds = self._splice([ids], visuals).inputs_embeds
        output = self.model.language_model(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return Prefix.of(cache), output.logits[:, -1].float()

    def _splice(self, prompts: Sequence[Sequence[int]], visuals: Sequence[Tensor]) -> Any:
        batch = self.processor.collate(prompts)
        device = self.model.device
        return self.model.splice(batch["input_ids"].to(device), batch["attention_mask"].to(device), visuals)

    def _choose(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        """A token for each row; `_NO_TOKEN` where the model gave no finite number, as half precision may."""
        tokens = self.chooser.choose(logits, [row.draw for row in rows])
        return tokens.where(logits.amax(-1).isfinite(), _NO_TOKEN)

    def _run(self) -> None:
        """One token more for every row."""
        if not self._running:
            return
        try:
            self._rows.advance(self.model.language_model, lambda logits: self._choose(logits, self._running))
        except RuntimeError as error:
            self._back_off(error)
        else:
            _note(self._running, self._rows.tokens)

    def _postprocess(self) -> list[Outcome]:
        self._retire()
        ready, self._ready = self._ready, []
        return ready

    def _retire(self) -> None:
        """Rows that ended leave the batch."""
        reasons = [self._ended(row) for row in self._running]
        for index in reversed(range(len(reasons))):
            reason, row = reasons[index], self._running[index]
            if reason is not None:
                is_sound = row.ids[-1] != _NO_TOKEN
                self._ready.append((row.number, Completion(row.ids, reason, row.draw) if is_sound else _overflow()))
                self._rows.leave(index)
                self._running[index] = self._running[-1]
                self._running.pop()

    def _ended(self, row: _Row) -> Literal["stop", "length"] | None:
        if row.draw.done or row.ids[-1] == _NO_TOKEN or row.ids[-1] in self._ends or self._says_stop(row.ids):
            return "stop"
        return "length" if len(row.ids) >= row.limit else None

    def _says_stop(self, ids: list[int]) -> bool:
        if not self._stops:
            return False
        text = self.processor.tokenizer.decode(ids[-self._stop_tokens :], skip_special_tokens=True)
        return any(stop in text for stop in self._stops)

    def _retreat(self, group: Group, error: Exception) -> None:
        """A group that failed is tried in halves; one that fails alone is a failure."""
        scarce = is_scarce(error)
        count = len(group.prompts)
        if count > 1:
            self._waiting.extendleft([group.part(count // 2), group.part(0, count // 2)])
            self.batch_size = len(self._running) + count // 2 if scarce else self.batch_size
        elif scarce and self._running:
            self._waiting.appendleft(group)
            self.batch_size = len(self._running)
        else:
            self._ready.append((group.numbers[0], _failure(error)))
        self._free(scarce)

    def _back_off(self, error: RuntimeError) -> None:
        """Rows that cannot be decoded together begin again, half as many at a time."""
        scarce = is_scarce(error)
        count = len(self._running)
        if count == 1:
            self._ready.append((self._running[0].number, _failure(error)))
        else:
            # The cache may have grown in some layers only, so that no row can go on.
            self._waiting.extendleft(row.prompt for row in reversed(self._running))
            self.batch_size = max(1, count // 2)
        self._running, self._rows = [], self._no_rows()
        self._free(scarce)

    def _free(self, scarce: bool) -> None:
        if scarce:
            self._visuals.clear()
            self._prefix = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, leaving each at least one of its own; all of a prompt that is alone.

    >>> shared_length([[1, -200, 5, 6], [1, -200, 5, 7, 8]]), shared_length([[1, 2], [1, 2]]), shared_length([[1, 2]])
    (3, 1, 2)
    """
    if len(prompts) == 1:
        return len(prompts[0])
    common = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in common), min(map(len, prompts)) - 1)


def _special_tokens(texts: Sequence[str], tokenizer: Any) -> list[int]:
    """Those of some texts that are a special token each, which an answer's text leaves out."""
    known = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return [known[text] for text in texts if text in known]


def _note(rows: Sequence[_Row], tokens: Tensor) -> None:
    for row, token in zip(rows, tokens.tolist(), strict=True):
        row.ids.append(token)


def _overflow() -> ItemError:
    return ItemError("model_error", "the model gave numbers that are not finite; `dtype` bfloat16 or float32 may not")


def _failure(error: Exception) -> ItemError:
    text = (str(error) or type(error).__name__).splitlines()[0][:200]
    return ItemError("out_of_memory" if is_out_of_memory(error) else "model_error", text)
