"""Answers to many prompts: one encoding for each picture, one prefill for what prompts share."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mgtool.errors import ItemError
from mgtool.inference.cache_support import CacheSupport
from mgtool.inference.cpu_layers import CpuLayers
from mgtool.inference.limits import PositionLimit
from mgtool.inference.memory import PrefillBudget, is_out_of_memory, is_scarce, is_split, token_budget
from mgtool.inference.prefill import Prefill
from mgtool.inference.readback import Readback
from mgtool.inference.rows import Rows
from mgtool.inference.rows_alone import AloneRows
from mgtool.inference.sampling import Greedy, Sampler
from mgtool.inference.scheduler import Completion, Group, Outcome, RunningSequence, Scheduler
from mgtool.inference.served import ServedModel
from mgtool.inference.stage_times import for_device
from mgtool.inference.static_step import CudaGraphs

VISUALS_KEPT = 8
"""Pictures whose tokens are kept for later groups."""
MOST_ROWS = {"cpu": 64, "cuda": 256}
"""Rows beyond which a step costs as much more as it answers more."""
FILL_S = 10.0
"""Seconds for which rows wait until the batch is full, if no answer is ready: a step of few costs nearly as much as one
of many."""
NO_TOKEN = -1


class Engine:
    """Continuous batches over a stream of groups.

    Args:
        model: a `ServedModel`, or an `MGLlavaForConditionalGeneration` in evaluation mode, on its device.
        processor: the model's.
        max_new_tokens: limit of an answer.
        batch_size: most prompts that are decoded together, None for what the device is good for; halved for good
            where memory does not suffice. With 1, every prompt is computed alone and shares nothing but its pictures.
        sampler: of tokens; greedy where there is none.
        stops: texts that end an answer, beside the template's.

    Attributes:
        times: of the stages.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        max_new_tokens: int,
        batch_size: int | None = None,
        sampler: Sampler | None = None,
        stops: Sequence[str] = (),
    ) -> None:
        self.model, self.processor = _served(model, processor), processor
        self._layers = CpuLayers(self.model.model, self.model.language_model)
        self.token_budget, self._budget = token_budget(self.model), PrefillBudget(self.model)
        self.sampler: Sampler = sampler or Greedy()
        self.times = for_device(self.model.device.type)
        self._scheduler = Scheduler(
            batch_size=batch_size or MOST_ROWS.get(self.model.device.type, 64),
            max_new_tokens=max_new_tokens,
            vision_tokens=self.model.vision_tokens,
            shares=batch_size != 1,
        )
        self._ends = {*processor.eos_token_ids, *_special_tokens(stops, processor.tokenizer)}
        self._stops = [*processor.stop_strings, *stops]
        # A token is a byte at least; one more begins within a word, where tokenizers drop a space.
        self._stop_tokens = max((len(stop.encode()) for stop in self._stops), default=0) + 1
        self._visuals: OrderedDict[tuple[str, ...], list[Tensor]] = OrderedDict()
        self._limit = PositionLimit.of(self.model.language_model)
        self._known_tokens = len(self.model.get_input_embeddings().weight)
        self._rows = self._no_rows()
        self._ready: list[Outcome] = []
        # A GPU begins the next step before the last one's tokens are read; a row that ended then computes one more.
        self._behind = 1 if self.model.device.type != "cpu" and not self._reads() else 0
        self._unread: deque[tuple[list[RunningSequence], Readback]] = deque()
        self._broken: str | None = None  # the first weight that is not finite, once that was looked for

    def _reads(self) -> bool:
        """Whether the next token depends on what the host knows of the last one."""
        penalties = self.model.penalties
        return self.sampler.reads or (penalties is not None and not penalties.is_empty)

    @property
    def batch_size(self) -> int:
        """Most prompts that are decoded together, as memory allows."""
        return self._scheduler.batch_size

    def generate(
        self, groups: Iterable[Group | None], is_ready: Callable[[], bool] = lambda: True
    ) -> Iterator[Outcome]:
        """An outcome for every prompt, in the order in which they end; arguments as of `steps`."""
        return itertools.chain.from_iterable(self.steps(groups, is_ready))

    def steps(
        self, groups: Iterable[Group | None], is_ready: Callable[[], bool] = lambda: True
    ) -> Iterator[list[Outcome]]:
        """The outcomes of each step, until every prompt has one.

        Args:
            groups: drawn when there is room; None where there is nothing to ask for the moment.
            is_ready: whether the next one can be had without waiting; else rows that run go on without it.
        """
        self._scheduler.supply(groups, is_ready)
        while self._scheduler.has_work():
            yield self.step()

    @torch.inference_mode()
    def step(self) -> list[Outcome]:
        """Admit the groups that fit, choose a token for every row, give the answers that ended."""
        with self._layers.used():
            with self.times.of("prefill"):
                self._schedule()
            with self.times.of("decode"):
                self._run()
        self.times.stepped(len(self._scheduler.running), self._rows.held)
        return self._postprocess()

    def _schedule(self) -> None:
        """Prefill groups until there is no room, an answer is ready, or rows have waited for long enough."""
        until = time.monotonic() + FILL_S
        while self._prefill() and not self._ready and time.monotonic() < until:
            pass

    def _prefill(self) -> bool:
        """Prefill the groups that fit at once; gives whether there were any."""
        groups = self._scheduler.next_groups(self.token_budget - self._rows.held, self._budget.holds)
        if groups:
            self._admit(groups)
        return bool(groups)

    def _admit(self, groups: Sequence[Group]) -> None:
        """Groups that fail together are tried in halves."""
        try:
            self._enter(groups)
        except (RuntimeError, ValueError, IndexError) as error:
            if len(groups) == 1:
                self._retreat(groups[0], error)
                return
            scarce, half = is_scarce(error), len(groups) // 2
            if scarce:
                self._budget.halve()
            self._free(scarce)
            self._admit(groups[:half])
            self._admit(groups[half:])

    def _enter(self, groups: Sequence[Group]) -> None:
        visuals = self._visuals_of(groups)
        prefills: list[tuple[Prefill, list[RunningSequence]]] = []
        failed: list[Outcome] = []
        for group, seen in zip(groups, visuals, strict=True):
            singles = [group.part(at, at + 1) for at in range(len(group.prompts))]
            begun = [self._begin(single, seen) for single in singles]
            failed += [
                (one.numbers[0], bad) for one, bad in zip(singles, begun, strict=True) if isinstance(bad, ItemError)
            ]
            sequences = [one for one in begun if isinstance(one, RunningSequence)]
            if sequences:
                prompts = [sequence.prompt.prompts[0] for sequence in sequences]
                numbers = [sequence.number for sequence in sequences]
                kept = replace(group, numbers=numbers, prompts=prompts, shared=group.common)
                prefills.append((Prefill(kept, seen), sequences))
        prefills.sort(key=lambda one: not one[0].is_whole)
        self._start([prefill for prefill, _ in prefills], [one for _, many in prefills for one in many])
        self._ready += failed

    def _start(self, prefills: Sequence[Prefill], sequences: list[RunningSequence]) -> None:
        """Sequences of prefills join the batch with their first tokens."""
        if not sequences:
            return
        self._rows.enter(self.model, prefills, lambda logits: self._choose(logits, sequences))
        self._scheduler.running += sequences
        self._unread.append((sequences, Readback(self._rows.tokens[-len(sequences) :])))
        if not self._behind:
            self._read()
            self._retire()

    def _begin(self, prompt: Group, visuals: Sequence[Tensor]) -> RunningSequence | ItemError:
        """A sequence with the number of tokens that there is room for; the reason where there is none."""
        ids, visual, longest = prompt.prompts[0], sum(map(len, visuals)), self._limit.longest
        limit = self._scheduler.max_new_tokens
        self.times.began(prompt, visual)
        if max(ids, default=0) >= self._known_tokens:
            return self._unknown_token(max(ids))
        if longest is None:
            return self._sequence(prompt, limit)
        length = self._limit.counted(ids, visual, is_video=prompt.is_video)
        if length >= longest:
            of = (
                "of the text alone"
                if prompt.is_video and not self._limit.is_learned
                else "with those of pictures and boxes"
            )
            return ItemError("prompt_too_long", f"{length} tokens {of}; the model takes {longest}")
        return self._sequence(prompt, min(limit, longest - length))

    def _sequence(self, prompt: Group, limit: int) -> RunningSequence:
        sequence = RunningSequence(prompt, limit, self.sampler.begin(prompt.numbers[0]))
        if self.model.penalties is not None:
            sequence.state.penalty = self.model.penalties.of(prompt.prompts[0], limit, sequence.ids)
        return sequence

    def _unknown_token(self, token: int) -> ItemError:
        tokenizer = self.processor.tokenizer
        text = tokenizer.convert_ids_to_tokens(token)
        rows = f"the tokenizer has {len(tokenizer)} tokens, the language model's embedding {self._known_tokens} rows"
        return ItemError("unsupported", f"the prompt holds {text!r}, token {token}: {rows}")

    def visuals(self, group: Group) -> list[Tensor]:
        """The visual tokens of a group's pictures, (tokens, H) each; those of the last pictures are kept."""
        return self._visuals_of([group])[0]

    def _visuals_of(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """As `visuals`, of several groups, whose pictures are seen together."""
        new = {one.key: one for one in groups if one.pictures and one.key not in self._visuals}
        if new:
            with self.times.of("towers"):
                self._visuals |= zip(new, self.model.see_all([*new.values()]), strict=True)
            self.times.pictures += sum(len(one.pictures) for one in new.values())
        for group in groups:
            if group.pictures:
                self._visuals.move_to_end(group.key)
        found = [self._visuals[group.key] if group.pictures else [] for group in groups]
        while len(self._visuals) > VISUALS_KEPT:
            self._visuals.popitem(last=False)
        return found

    def _no_rows(self) -> Rows | AloneRows:
        if not self.model.shares_prefixes():
            return AloneRows(self.model.device, CacheSupport.of(self.model.language_model))
        layers, device = self.model.text_config.num_hidden_layers, self.model.device
        if len({parameter.device for _, parameter in self.model.named_parameters()}) > 1:
            return Rows(layers, device, at_once=False)
        return Rows(layers, device, capture=CudaGraphs() if device.type == "cuda" and not is_split() else None)

    def _choose(self, logits: Tensor, sequences: Sequence[RunningSequence]) -> Tensor:
        """A token for each row; `NO_TOKEN` where the model gave no finite number, as half precision may."""
        tokens = self.sampler.choose(logits, [sequence.state for sequence in sequences])
        return tokens.where(logits.amax(-1).isfinite(), NO_TOKEN)

    def _run(self) -> None:
        """One token more for every row."""
        running = self._scheduler.running
        if not running:
            return
        try:
            self._rows.advance(self.model.language_model, lambda logits: self._choose(logits, running))
        except RuntimeError as error:
            self._back_off(error)
        else:
            self._unread.append(([*running], Readback(self._rows.tokens)))
            self._read()

    def _read(self) -> None:
        """Give sequences the tokens of all steps but the last ones, which may go on meanwhile."""
        while len(self._unread) > self._behind:
            sequences, tokens = self._unread.popleft()
            for sequence, token in zip(sequences, tokens.read(), strict=True):
                if sequence.finish_reason is None:
                    sequence.ids.append(token)
                    sequence.finish_reason = self._ended(sequence)

    def _postprocess(self) -> list[Outcome]:
        self._retire()
        ready, self._ready = self._ready, []
        return ready

    def _retire(self) -> None:
        """Rows that ended leave the batch."""
        running = self._scheduler.running
        ended = [index for index, one in enumerate(running) if one.finish_reason is not None]
        self._ready += [(running[index].number, self._outcome(running[index])) for index in ended]
        if ended:
            self._rows.leave(ended)
            self._scheduler.leave(ended)
        if not self._scheduler.running:
            self._unread.clear()

    def _outcome(self, one: RunningSequence) -> Completion | ItemError:
        if one.ids[-1] == NO_TOKEN or one.finish_reason is None:
            return self._overflow()
        return Completion(one.ids, one.finish_reason, one.state)

    def _ended(self, one: RunningSequence) -> Literal["stop", "length"] | None:
        if one.state.done or one.ids[-1] == NO_TOKEN or one.ids[-1] in self._ends or self.says_stop(one.ids):
            return "stop"
        return "length" if len(one.ids) >= one.limit else None

    def _overflow(self) -> ItemError:
        """Why the model gave no number: half precision may overflow, weights may hold none."""
        said = "the model gave numbers that are not finite"
        if self.model.dtype == torch.float16:
            return ItemError("model_error", f"{said}; `dtype` bfloat16 or float32 may not")
        weights = self.model.named_parameters()
        if self._broken is None:
            broken = (name for name, weight in weights if weight.is_floating_point() and not weight.isfinite().all())
            self._broken = next(broken, "")
        where = f"its weights hold NaN or infinity, the first in {self._broken}" if self._broken else "its weights are"
        return ItemError("model_error", f"{said}; {where}")

    def says_stop(self, ids: list[int]) -> bool:
        if not self._stops:
            return False
        text = self.processor.tokenizer.decode(ids[-self._stop_tokens :], skip_special_tokens=True)
        return any(stop in text for stop in self._stops)

    def _retreat(self, group: Group, error: Exception) -> None:
        """A group that failed is tried in halves; one that fails alone is a failure."""
        scarce = is_scarce(error)
        if not self._scheduler.split(group, is_scarce=scarce):
            self._ready.append((group.numbers[0], _failure(error)))
        self._free(scarce)

    def _back_off(self, error: Exception) -> None:
        """Rows that cannot be decoded together begin again; one that cannot alone is a failure."""
        scarce = is_scarce(error)
        failed = self._scheduler.back_off()
        if failed is not None:
            self._ready.append((failed.number, _failure(error)))
        self._rows = self._no_rows()
        self._unread.clear()
        self._free(scarce)

    def _free(self, scarce: bool) -> None:
        if scarce:
            self._visuals.clear()
            self._rows.forget()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _served(model: Any, processor: Any) -> ServedModel:
    if isinstance(model, nn.Module):
        from mgtool.inference.native_model import NativeModel

        return NativeModel(model, processor)
    served: ServedModel = model
    return served


def _special_tokens(texts: Sequence[str], tokenizer: Any) -> list[int]:
    """Those of some texts that are a special token each, which an answer's text leaves out."""
    known = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return [known[text] for text in texts if text in known]


def _failure(error: Exception) -> ItemError:
    text = (str(error) or type(error).__name__).splitlines()[0][:200]
    return ItemError("out_of_memory" if is_out_of_memory(error) else "model_error", text)
