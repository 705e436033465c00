"""Samples -> results in one process, in the order in which they are final."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from mgtool import records
from mgtool.boxes.lookup import BoxSource
from mgtool.errors import ItemError
from mgtool.inference.answer_cache import AnswerCache, KeptAnswer
from mgtool.inference.engine import Engine
from mgtool.inference.explaining import BoxExplainer, notes_of
from mgtool.inference.grouping import Planner, Prompt
from mgtool.inference.loading import deterministic, load_model, load_processor
from mgtool.inference.output import Result
from mgtool.inference.plan import InferencePlan
from mgtool.inference.profile import traced
from mgtool.inference.sampling import Choices, Sampler, make_sampler
from mgtool.inference.scheduler import Completion, Group, Outcome
from mgtool.inference.stage_times import StageTimes, for_device
from mgtool.inference.static_engine import StaticEngine
from mgtool.inference.transformers_model import TransformersModel
from mgtool.inference.transformers_processor import PreparedPrompts, TransformersProcessor
from mgtool.inference.truncation import Truncator
from mgtool.inputs.model_folders import model_name
from mgtool.records import Answer, Failure

_logger = logging.getLogger(__name__)

Items = Iterable[tuple[int, records.Item]]
Results = Generator[tuple[int, Result]]


def answered(plan: InferencePlan, items: Items, boxes: BoxSource, times: StageTimes | None = None) -> Results:
    """Positions and results of numbered items, each as soon as it is final; closing it ends the decoding.

    Args:
        plan: how to answer, on one device.
        items: positions and items.
        boxes: where boxes come from.
        times: what is told how long each stage takes.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(deterministic(plan.options.deterministic))
        cache = stack.enter_context(_opened_cache(plan))
        answering = Answering(plan, load_processor(plan), boxes, cache)
        times = answering.planner.times = times or for_device(plan.device)
        groups = stack.enter_context(contextlib.closing(answering.groups(items)))
        supply: Iterable[Group | None] = groups
        if cache is not None:
            # Answers that are all known need no model; without a cache its errors are better said at once.
            first = yield from _first_group(groups, answering)
            if first is None:
                return
            supply = itertools.chain([first], groups)
        engine = make_engine(
            plan, load_model(plan), answering.processor, answering.sampler, batch_size=plan.options.batch_size
        )
        answering.explainer = BoxExplainer(engine.model, engine.visuals) if plan.options.explain else None
        engine.times, trace = times, stack.enter_context(traced(plan.options.profile))
        for outcomes in engine.steps(times.drawing(supply), answering.planner.is_ready):
            trace.stepped()
            answering.put(outcomes)
            yield from answering.ready()
        yield from answering.ready()


def _first_group(
    groups: Iterable[Group | None], answering: Answering
) -> Generator[tuple[int, Result], None, Group | None]:
    """Results of earlier runs up to the first group that the model is needed for; gives that."""
    for group in groups:
        if group is not None:
            return group
        yield from answering.ready()
    yield from answering.ready()
    return None


def make_engine(plan: InferencePlan, model: Any, processor: Any, sampler: Sampler, *, batch_size: int | None) -> Engine:
    """The engine for a plan, with at most `batch_size` prompts at a time."""
    kind = Engine
    if plan.backend == "vllm":
        from mgtool.inference.vllm_engine import VllmEngine

        kind = VllmEngine
    elif isinstance(processor, TransformersProcessor):
        model = TransformersModel(model, processor)
        kind = Engine if model.shares_prefixes() else StaticEngine
        if kind is StaticEngine:
            _logger.warning("%s: questions about one picture share nothing; answered in batches", plan.model)
    return kind(
        model,
        processor,
        max_new_tokens=max(map(len, sampler.options)) if isinstance(sampler, Choices) else plan.max_new_tokens,
        batch_size=1 if plan.options.deterministic else batch_size,
        sampler=sampler,
        stops=plan.decoding.stop,
    )


class Answering:
    """What is on its way between samples and results.

    Args:
        plan: how to answer.
        processor: the model's.
        boxes: where boxes come from.
        cache: answers of earlier runs.

    Attributes:
        planner: makes groups of prompts.
        sampler: of tokens.
        explainer: of answers, where they are explained.
    """

    explainer: BoxExplainer | None = None

    def __init__(self, plan: InferencePlan, processor: Any, boxes: BoxSource, cache: AnswerCache | None) -> None:
        self.plan, self.processor, self.cache = plan, processor, cache
        self.planner = Planner(
            plan.prompter,
            processor,
            boxes,
            self._recall,
            workers=plan.workers,
            pinned=plan.device.startswith("cuda"),
            timeless=plan.tensor_parallel > 1,
            max_pixels=plan.options.max_pixels,
        )
        self.sampler = make_sampler(plan.decoding, processor, self._name)
        self._truncator = Truncator(plan, processor) if plan.options.truncate else None
        self._parts: dict[int, dict[int, Completion | ItemError]] = {}
        self._cut: dict[int, str] = {}
        self._asked: dict[int, Group] = {}
        self._ready: deque[tuple[int, Result]] = deque()

    def groups(self, items: Items) -> Generator[Group | None]:
        """What the engine is given: each prompt as many times as the sampler needs it."""
        rows = self.sampler.rows
        for planned in self.planner.groups(items):
            if planned is None:
                yield None
                continue
            for group in self._truncated(planned):
                if self.plan.options.explain:
                    self._asked |= {position: group.alone(at) for at, position in enumerate(group.numbers)}
                numbers = [position * rows + row for position in group.numbers for row in range(rows)]
                yield replace(group, numbers=numbers, prompts=[ids for ids in group.prompts for _ in range(rows)])

    def put(self, outcomes: Iterable[Outcome]) -> None:
        """Take what became of some of the questions' rows; a question's result is ready with its last one."""
        for number, outcome in outcomes:
            position, row = divmod(number, self.sampler.rows)
            parts = self._parts.setdefault(position, {})
            parts[row] = outcome
            if len(parts) == self.sampler.rows:
                del self._parts[position]
                self._ready.append((position, self._result(position, [parts[row] for row in sorted(parts)])))

    def ready(self) -> Iterator[tuple[int, Result]]:
        """Results that were not given yet, and the failures that the planner found."""
        while self._ready:
            yield self._ready.popleft()
        failures, self.planner.failures = self.planner.failures, {}
        yield from failures.items()

    def _result(self, position: int, parts: Sequence[Completion | ItemError]) -> Result:
        prompt, cut = self.planner.prompts.pop(position), self._cut.pop(position, "")
        try:
            for part in parts:
                if isinstance(part, ItemError):
                    raise part
            kept = self._kept_answers(prompt, cast(Sequence[Completion], parts), cut)
        except ItemError as error:
            return Failure.of(prompt.sample.id, "infer", error)
        if self.cache is not None:
            self.cache.add(prompt, kept)
        return self._answers(prompt, kept)

    def _recall(self, prompt: Prompt) -> bool:
        """Whether an earlier run answered this, whose answers then are ready."""
        kept = None if self.cache is None else self.cache.find(prompt)
        if kept is not None:
            self._ready.append((prompt.position, self._answers(prompt, kept)))
        return kept is not None

    def _name(self, position: int) -> Any:
        return self.planner.prompts[position].sample.id

    def _truncated(self, group: Group) -> Iterator[Group]:
        """The group with prompts that fit; in parts where they no longer share all that they see."""
        if self._truncator is None:
            yield group
            return
        prompts = []
        for position, ids in zip(group.numbers, group.prompts, strict=True):
            cut = self._truncator.fit(self.planner.prompts[position].sample, ids, group.pictures)
            prompts.append(ids if cut is None else cut.ids)
            if cut is not None:
                self._cut[position] = cut.question
        fitting, first = replace(group, prompts=prompts), next(iter(group.pictures), None)
        yield from first.parts(fitting) if isinstance(first, PreparedPrompts) else [fitting]

    def _kept_answers(self, prompt: Prompt, parts: Sequence[Completion], cut: str) -> list[KeptAnswer]:
        asked = self._asked.pop(prompt.position, None)
        if self.plan.decoding.choices:
            return [self._choice(prompt, asked, parts, cut)]
        kept = []
        for number, part in enumerate(parts):
            notes: dict[str, Any] = {"sample": number} if len(parts) > 1 else {}
            if self.plan.decoding.logprobs:
                notes["logprobs"] = self._logprobs(part)
            notes |= self._explained(prompt, asked, part)
            text = self.processor.decode(part.ids, stops=self.plan.decoding.stop)
            kept.append(KeptAnswer(text, part.finish_reason, len(part.ids), notes, cut))
        return kept

    def _choice(self, prompt: Prompt, asked: Group | None, parts: Sequence[Completion], cut: str) -> KeptAnswer:
        if any(not part.state.done for part in parts):
            raise ItemError("prompt_too_long", "there is no room for the longest option")
        scores = parts[0].state.options or [sum(part.state.logprobs) for part in parts]
        choices = self.plan.decoding.choices
        best = max(range(len(choices)), key=scores.__getitem__)
        notes = {"choices": {choice: round(score, 4) for choice, score in zip(choices, scores, strict=True)}}
        chosen = parts[best if len(parts) > 1 else 0]
        notes |= self._explained(prompt, asked, chosen)
        return KeptAnswer(choices[best], "stop", len(chosen.ids), notes, cut)

    def _explained(self, prompt: Prompt, asked: Group | None, part: Completion) -> dict[str, Any]:
        if self.explainer is None or asked is None:
            return {}
        return {"explain": notes_of(self.explainer.explain(asked, part.ids), asked, prompt.media)}

    def _logprobs(self, part: Completion) -> list[dict[str, Any]]:
        tokens = self.processor.tokenizer.convert_ids_to_tokens(part.ids)
        pairs = zip(tokens, part.state.logprobs, strict=True)
        return [{"token": token, "logprob": round(value, 4)} for token, value in pairs]

    def _answers(self, prompt: Prompt, kept: Sequence[KeptAnswer]) -> tuple[Answer, ...]:
        sample = prompt.sample
        media = records.media_of(sample)
        return tuple(
            Answer(
                question_id=sample.id,
                prompt=one.prompt or prompt.question,
                text=one.text,
                model_id=model_name(self.plan.model),
                image=media[0].name if media else "",
                finish_reason=one.finish_reason,
                tokens=one.tokens,
                metadata={**sample.metadata, **one.notes},
            )
            for one in kept
        )


@contextlib.contextmanager
def _opened_cache(plan: InferencePlan) -> Iterator[AnswerCache | None]:
    if plan.options.cache is None:
        yield None
        return
    identity = {**plan.answer_identity(), "device": plan.device.partition(":")[0]}
    identity |= {} if plan.backend == "native" else {"backend": plan.backend}
    by_id, settled = plan.decoding.temperature > 0, plan.tensor_parallel > 1
    with contextlib.closing(AnswerCache(plan.options.cache, identity, by_id=by_id, settled=settled)) as cache:
        yield cache
