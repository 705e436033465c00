"""Samples -> results in one process, in the order in which they are final."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from mgtool import records
from mgtool.boxes.lookup import BoxSource
from mgtool.errors import ItemError
from mgtool.inference.answer_cache import AnswerCache, Drawn
from mgtool.inference.engine import Completion, Engine, Group
from mgtool.inference.grouping import Asked, Planner
from mgtool.inference.loading import deterministic, load_model, load_processor
from mgtool.inference.options import Request
from mgtool.inference.output import Result
from mgtool.inference.sampling import Choices, Chooser, make_chooser
from mgtool.inference.truncation import Truncator
from mgtool.records import Answer, Failure

Emit = Callable[[int, Result], None]
Items = Iterable[tuple[int, records.Item]]


def answer_items(request: Request, items: Items, boxes: BoxSource, emit: Emit) -> None:
    """Answer numbered items; every result is given to `emit` as soon as it is final.

    Args:
        request: what is asked of whom, on one device.
        items: positions and items.
        boxes: where boxes come from.
        emit: takes positions and results.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(deterministic(request.deterministic))
        cache = stack.enter_context(_opened_cache(request))
        asking = Asking(request, load_processor(request), boxes, cache, emit)
        groups = stack.enter_context(contextlib.closing(asking.groups(items)))
        # Answers that are all known need no model; without a cache its errors are better said at once.
        first = [] if cache is None else list(itertools.islice(groups, 1))
        if first or cache is None:
            engine = make_engine(request, load_model(request), asking.processor, asking.chooser)
            for number, outcome in engine.generate(itertools.chain(first, groups), asking.planner.is_ready):
                asking.put(number, outcome)
        asking.flush()


def make_engine(request: Request, model: Any, processor: Any, chooser: Chooser) -> Engine:
    """The engine for a request."""
    longest = max(map(len, chooser.options)) if isinstance(chooser, Choices) else request.max_new_tokens
    return Engine(
        model,
        processor,
        max_new_tokens=longest,
        batch_size=1 if request.deterministic else request.batch_size,
        chooser=chooser,
        stops=request.decoding.stop,
    )


class Asking:
    """What is on its way between samples and results.

    Attributes:
        processor: the model's.
        chooser: of tokens.
    """

    def __init__(
        self, request: Request, processor: Any, boxes: BoxSource, cache: AnswerCache | None, emit: Emit
    ) -> None:
        self.request, self.processor, self.cache, self.emit = request, processor, cache, emit
        self.planner = Planner(
            request.prompter,
            processor,
            boxes,
            self._recall,
            workers=request.workers,
            pinned=request.device.startswith("cuda"),
            timeless=request.tensor_parallel > 1,
        )
        self.chooser = make_chooser(request.decoding, processor, self._name)
        self._truncator = Truncator(request, processor) if request.truncate else None
        self._parts: dict[int, dict[int, Completion | ItemError]] = {}
        self._cut: dict[int, str] = {}

    def groups(self, items: Items) -> Generator[Group]:
        """What the engine is given: each prompt as many times as the chooser needs it."""
        rows = self.chooser.rows
        for planned in self.planner.groups(items):
            group = self._truncated(planned)
            numbers = [position * rows + row for position in group.numbers for row in range(rows)]
            yield replace(group, numbers=numbers, prompts=[ids for ids in group.prompts for _ in range(rows)])

    def put(self, number: int, outcome: Completion | ItemError) -> None:
        """Take what became of one of a question's rows; emit the question's result with its last one."""
        position, row = divmod(number, self.chooser.rows)
        parts = self._parts.setdefault(position, {})
        parts[row] = outcome
        if len(parts) == self.chooser.rows:
            del self._parts[position]
            self._finish(position, [parts[row] for row in sorted(parts)])
        self.flush()

    def flush(self) -> None:
        """Emit the failures that the planner found."""
        failures, self.planner.failures = self.planner.failures, {}
        for position, failure in failures.items():
            self.emit(position, failure)

    def _finish(self, position: int, parts: Sequence[Completion | ItemError]) -> None:
        asked = self.planner.asked.pop(position)
        cut = self._cut.pop(position, "")
        errors = [part for part in parts if isinstance(part, ItemError)]
        if errors:
            self.emit(position, Failure.of(asked.sample.id, "infer", errors[0]))
            return
        try:
            drawn = self._drawn(cast(Sequence[Completion], parts), cut)
        except ItemError as error:
            self.emit(position, Failure.of(asked.sample.id, "infer", error))
            return
        if self.cache is not None:
            self.cache.add(asked, drawn)
        self.emit(position, self._answers(asked, drawn))

    def _recall(self, asked: Asked) -> bool:
        """Whether an earlier run answered this, emitting its answers."""
        drawn = None if self.cache is None else self.cache.find(asked)
        if drawn is not None:
            self.emit(asked.position, self._answers(asked, drawn))
            self.flush()
        return drawn is not None

    def _name(self, position: int) -> Any:
        return self.planner.asked[position].sample.id

    def _truncated(self, group: Group) -> Group:
        if self._truncator is None:
            return group
        prompts = []
        for position, ids in zip(group.numbers, group.prompts, strict=True):
            cut = self._truncator.fit(self.planner.asked[position].sample, ids, group.pictures)
            prompts.append(ids if cut is None else cut.ids)
            if cut is not None:
                self._cut[position] = cut.question
        return replace(group, prompts=prompts)

    def _drawn(self, parts: Sequence[Completion], cut: str) -> list[Drawn]:
        if self.request.decoding.choices:
            return [self._chosen(parts, cut)]
        drawn = []
        for number, part in enumerate(parts):
            notes: dict[str, Any] = {"sample": number} if len(parts) > 1 else {}
            if self.request.decoding.logprobs:
                notes["logprobs"] = self._logprobs(part)
            text = self.processor.decode(part.ids, stops=self.request.decoding.stop)
            drawn.append(Drawn(text, part.finish_reason, len(part.ids), notes, cut))
        return drawn

    def _chosen(self, parts: Sequence[Completion], cut: str) -> Drawn:
        if any(not part.draw.done for part in parts):
            raise ItemError("prompt_too_long", "there is no room for the longest option")
        scores = parts[0].draw.options or [sum(part.draw.logprobs) for part in parts]
        choices = self.request.decoding.choices
        best = max(range(len(choices)), key=scores.__getitem__)
        notes = {"choices": {choice: round(score, 4) for choice, score in zip(choices, scores, strict=True)}}
        tokens = len(parts[best if len(parts) > 1 else 0].ids)
        return Drawn(choices[best], "stop", tokens, notes, cut)

    def _logprobs(self, part: Completion) -> list[dict[str, Any]]:
        tokens = self.processor.tokenizer.convert_ids_to_tokens(part.ids)
        pairs = zip(tokens, part.draw.logprobs, strict=True)
        return [{"token": token, "logprob": round(value, 4)} for token, value in pairs]

    def _answers(self, asked: Asked, drawn: Sequence[Drawn]) -> tuple[Answer, ...]:
        sample = asked.sample
        media = (*sample.images, *([] if sample.video is None else [sample.video]))
        return tuple(
            Answer(
                question_id=sample.id,
                prompt=one.prompt or asked.question,
                text=one.text,
                model_id=self.request.model.resolve().name,
                image=media[0].name if media else "",
                finish_reason=one.finish_reason,
                tokens=one.tokens,
                metadata={**sample.metadata, **one.notes},
            )
            for one in drawn
        )


@contextlib.contextmanager
def _opened_cache(request: Request) -> Iterator[AnswerCache | None]:
    if request.cache is None:
        yield None
        return
    identity = {**request.answer_identity(), "device": request.device.partition(":")[0]}
    by_id, settled = request.decoding.temperature > 0, request.tensor_parallel > 1
    cache = AnswerCache(request.cache, identity, by_id=by_id, settled=settled)
    with contextlib.closing(cache):
        yield cache
