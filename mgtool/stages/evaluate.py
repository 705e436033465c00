"""Answers and targets -> scores, what differs from another run, and a page to look at."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import UsageError
from mgtool.evaluation import output, pipeline, variants
from mgtool.evaluation.collection import collector_paused
from mgtool.evaluation.comparison import Comparison
from mgtool.evaluation.explanations import effects
from mgtool.evaluation.inputs import EvalInputs
from mgtool.evaluation.joining import having
from mgtool.evaluation.judge_models import CountingJudge, kept_judge
from mgtool.evaluation.judging import with_judge
from mgtool.evaluation.options import EvalOptions
from mgtool.evaluation.picture_reader import PictureReader
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.evaluation.provenance import Provenance, provenance
from mgtool.evaluation.variants import VariantScores
from mgtool.files.lock import one_writer
from mgtool.records import Advance
from mgtool.report import diagnostics, scores_folder, scores_page, tables
from mgtool.runs import progress
from mgtool.runs.remote_output import writing
from mgtool.runs.run_file import RUN_FILE, Run, today, versions
from mgtool.scoring.benchmark import Judge
from mgtool.scoring.predictions import Answers

IDENTIFYING = ("benchmark", "metric", "by", "variant", "only_answered", "samples", "trust_ids", "judge", "split")
"""The options that make a run the one it is; the others add to the page, or say where things are."""


@dataclass(frozen=True)
class Evaluation(ScoredRun):
    """Everything that came out; a notebook shows the metrics.

    Attributes:
        comparison: with the other run, where one was given.
    """

    comparison: Comparison | None = None

    def _repr_html_(self) -> str:
        return tables.html(self.result.caption, tables.HEADER, tables.metric_rows(self.result.metrics))


@dataclass(frozen=True)
class EvalPlan:
    """What an evaluation would do.

    Attributes:
        benchmark: its name.
        variant: the way to score.
        items: questions of the benchmark.
        answers: usable answers.
        unreadable: lines that could not be read.
        requests: questions to the judge, those included whose replies are kept; 0 without a judge.
        prompt_tokens: about as many in these questions.
    """

    benchmark: str
    variant: str
    items: int
    answers: int
    unreadable: int
    requests: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class VariantDifferences:
    """What the choice of a variant changes.

    Attributes:
        variants: all of the benchmark's.
        expected: items of the benchmark.
        items: the answered ones that are scored differently.
    """

    variants: tuple[str, ...]
    expected: int
    items: list[VariantScores]


def evaluate(
    answers: str | Path,
    options: EvalOptions,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    wait: bool = False,
    advance: Advance = lambda n: None,
) -> Evaluation:
    """Score answers as the official script does, with uncertainty, slices and a page.

    Args:
        answers: answers file, ``-`` for stdin, or the box folder of a detection benchmark.
        options: what is asked for.
        out: folder for scores.json, scores.jsonl, failures.jsonl, report.html and run.json; nothing is written
            without one.
        overwrite: what another run left in `out` does not count.
        wait: for another run that writes to `out` to end, instead of refusing.
        advance: called with 1 for each new reply of a judge.

    Raises:
        UsageError: options that are wrong or do not go together.
        InputError: answers or official files that cannot be used.
        ResumeError: `out` holds the output of another run.
        OutputError: `out` cannot be written, or another run writes to it.
    """
    inputs = EvalInputs(answers, options)
    if out is None:
        with collector_paused():
            return _evaluate(inputs, None, overwrite, advance)
    with collector_paused(), writing(out, wait=wait) as folder:
        return _evaluate(inputs, folder, overwrite, advance)


def _evaluate(inputs: EvalInputs, folder: Path | None, overwrite: bool, advance: Advance) -> Evaluation:
    progress.doing(advance, "reads answers and ground truth")
    options, run = inputs.options, _begun(inputs, folder, overwrite=overwrite)
    progress.doing(advance, f"scores {len(inputs.items):,} items")
    with kept_judge(options, folder, advance) as judge:
        scored = with_judge(_scored(inputs, inputs.answers, judge), judge)
        scored = pipeline.with_slices(scored, options.slices or (), inputs.boxes or None)
        date = today() if run is None else run.date
        scored = _named(inputs, scored, date)
        comparison = _compared(inputs, scored, judge, date)
    evaluation = Evaluation(**vars(scored), comparison=comparison)
    if folder is not None and run is not None:
        progress.doing(advance, "writes scores and page")
        _write(inputs, evaluation, folder)
        named = evaluation.result.provenance
        noted: dict[str, Any] = {
            "model": {"path": named.model_path, "sha256": named.model_sha256, "names": named.models}
        }
        if judge is not None:
            noted["judge_asked_otherwise"] = judge.otherwise
        run.finish(msgspec.structs.asdict(evaluation.counts), noted=noted)
    return evaluation


def explain_variants(
    answers: str | Path,
    options: EvalOptions,
    out: str | Path | None = None,
    *,
    wait: bool = False,
    advance: Advance = lambda n: None,
) -> VariantDifferences:
    """The answered items whose score is not the same in every variant; arguments and errors as of `evaluate`.

    Only a judge's replies are written to `out`.
    """
    inputs = EvalInputs(answers, options)
    inputs.check()
    folder = None if out is None else Path(out)
    alone = contextlib.nullcontext() if folder is None else one_writer(folder, wait=wait)
    with alone, kept_judge(options, folder, advance) as judge:
        differing = variants.explain_variants(
            inputs.benchmark, inputs.items, inputs.answers, judge, trust_ids=options.trust_ids
        )
    return VariantDifferences(tuple(inputs.benchmark.variants), len(inputs.items), differing)


def plan(answers: str | Path, options: EvalOptions) -> EvalPlan:
    """What `evaluate` would do; no judge is asked. Arguments and errors as of `evaluate`."""
    inputs = EvalInputs(answers, options)
    inputs.check()
    counting = CountingJudge()
    if options.judge:
        pairs = inputs.joined.pairs
        collections.deque(inputs.benchmark.grade(pairs, options.variant, counting), maxlen=0)
    return EvalPlan(
        benchmark=inputs.benchmark.name,
        variant=options.variant,
        items=len(inputs.items),
        answers=len(inputs.answers.predictions),
        unreadable=sum(failure.stage == "eval" for failure in inputs.answers.failures),
        requests=counting.requests,
        prompt_tokens=counting.tokens,
    )


def _begun(inputs: EvalInputs, out: Path | None, *, overwrite: bool) -> Run | None:
    """The record of the run, once nothing in its inputs is a mistake; None without a folder for it."""
    if inputs.options.submission and out is None:
        raise UsageError("submission", "needs `out` DIR")
    inputs.check()
    if out is None:
        return None
    options = {name: getattr(inputs.options, name) for name in IDENTIFYING}
    computes = ("numpy", "scipy", "hotcoco", "pycocotools")
    run = Run(out / RUN_FILE, command="eval", options=options, inputs=inputs.identified(), computes=computes)
    run.begin(overwrite=overwrite)
    return run


def _scored(inputs: EvalInputs, answers: Answers, judge: Judge | None) -> ScoredRun:
    options = inputs.options
    return pipeline.score(
        inputs.benchmark,
        inputs.items,
        answers,
        variant=options.variant,
        only_answered=options.only_answered,
        judge=judge,
        rule=options.samples,
        trust_ids=options.trust_ids,
        joined=inputs.joined if answers is inputs.answers else None,
    )


def _named(inputs: EvalInputs, scored: ScoredRun, date: str) -> ScoredRun:
    """The scores with what they are of."""
    named = _provenance(inputs, inputs.source, inputs.answers, scored, date)
    return dataclasses.replace(scored, result=msgspec.structs.replace(scored.result, provenance=named))


def _provenance(inputs: EvalInputs, source: str, answers: Answers, scored: ScoredRun, date: str) -> Provenance:
    return provenance(
        source,
        answers.predictions,
        ground_truth=inputs.ground_truth,
        split=inputs.options.split,
        judge="" if scored.result.judge is None else scored.result.judge.name,
        versions=versions(),
        date=date,
    )


def _compared(inputs: EvalInputs, scored: ScoredRun, judge: Judge | None, date: str) -> Comparison | None:
    """This run against the other one, which comes first."""
    if not inputs.options.compare:
        return None
    other = _scored(inputs, inputs.compared, judge)
    found = pipeline.compared(inputs.benchmark, other, scored, inputs.options.variant, inputs.options.samples)
    first = _provenance(inputs, inputs.options.compare, inputs.compared, scored, date)
    second = scored.result.provenance
    return msgspec.structs.replace(found, name=scored.result.name, first_run=first, second_run=second)


def _write(inputs: EvalInputs, evaluation: Evaluation, out: Path) -> None:
    output.save(out, evaluation, evaluation.comparison)
    named = (score.image for score in evaluation.scores if score.image)
    with PictureReader(inputs.place, inputs.ground_truth, named) as reader:
        page = _page(inputs, evaluation, out, reader)
        scores_folder.write(out, page, full_pictures=inputs.options.full_pictures)
    if inputs.options.submission:
        output.save_submission(out, inputs.benchmark, evaluation.pairs, inputs.options.split)


def _page(inputs: EvalInputs, evaluation: Evaluation, out: Path, reader: PictureReader) -> scores_page.ScoresPage:
    result = evaluation.result
    counts: Mapping[str, Any] = msgspec.structs.asdict(evaluation.counts)
    images, probable = inputs.options.images or "", having(evaluation.pairs, *diagnostics.PROBABLE)
    return scores_page.ScoresPage(
        title=inputs.benchmark.title,
        name=result.name,
        subtitle=f"{evaluation.counts.expected:,} items, {Path(inputs.source).name}",
        headline=next(iter({inputs.benchmark.headline} & result.metrics.keys()), next(iter(result.metrics), "")),
        metrics=result.metrics,
        breakdown=result.breakdown,
        slices=result.slices,
        counts=counts,
        facts=_facts(evaluation),
        notes=[*result.notes, *reader.notes],
        scores=evaluation.scores,
        boxes=inputs.boxes,
        effects=effects(having(evaluation.pairs, "explain")),
        comparison=evaluation.comparison,
        read=scores_page.no_picture if reader.is_empty else reader,
        calibration=diagnostics.calibration(evaluation.scores, diagnostics.confidences(probable)),
        files=os.path.relpath(images, out) if images and "://" not in images else "",
    )


def _facts(evaluation: Evaluation) -> dict[str, str]:
    """What the numbers are of, the run that they are compared with, too."""
    compared = evaluation.comparison
    first = {} if compared is None else {"compared with": compared.first_run.line}
    return {**evaluation.result.provenance.facts, **first}
