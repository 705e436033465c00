"""`mgtool eval`: official scores of an answers file, with their uncertainty, and a page to look at."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console
from mgtool.commands import eval_options as options
from mgtool.commands.eval_inputs import Job, picture_reader
from mgtool.commands.options import AllowFailures, Command, Config, DryRun, Json, Overwrite, Quiet, exit_code
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mgtool.benchmarks import Benchmark
    from mgtool.evaluation.comparison import Comparison
    from mgtool.evaluation.judge_models import KeptJudge
    from mgtool.evaluation.pipeline import Evaluation
    from mgtool.records import SampleId
    from mgtool.scoring.predictions import Answers

_NAMED = 5


class EvalCommand(Command):
    """Lets one `--ground-truth` take several paths; the last may be the answers file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give each path its own `--ground-truth`, as click understands it."""
        spread, last = _spread(args)
        given = [arg for arg in spread if arg in ("--list", "--help", "-h")]
        if last is None or given or not _lacks_answers(self, ctx, spread):
            return super().parse_args(ctx, spread)
        return super().parse_args(ctx, [*spread[: last - 1], *spread[last:]])


def _spread(args: list[str]) -> tuple[list[str], int | None]:
    """The arguments with one path for each option, and the place of the last further path."""
    spread: list[str] = []
    collecting, taken, last = False, 0, None
    for arg in args:
        if arg.startswith("--") or (arg.startswith("-") and len(arg) == 2):
            collecting, taken = arg == "--ground-truth", 0
        elif collecting:
            taken += 1
            if taken > 1:
                spread.append("--ground-truth")
                last = len(spread)
        spread.append(arg)
    return spread, last


def _lacks_answers(command: Command, context: typer.Context, args: list[str]) -> bool:
    """Whether no positional argument is left."""
    parser = command.make_parser(context)
    values, _, _ = parser.parse_args(list(args))
    return not isinstance(values.get("answers"), str)


def evaluate(
    answers: options.Answers = None,
    benchmark: options.BenchmarkName = "",
    ground_truth: options.GroundTruth = None,
    questions: options.Questions = None,
    split: options.Split = "",
    out: options.Out = None,
    variant: options.Variant = "official",
    explain_variants: options.ExplainVariants = False,
    only_answered: options.OnlyAnswered = False,
    compare: options.Compare = "",
    slices: options.Slices = None,
    images: options.Images = None,
    boxes: options.Boxes = None,
    judge: options.JudgeModel = "",
    judge_url: options.JudgeUrl = "https://api.openai.com/v1",
    judge_workers: options.JudgeWorkers = 8,
    submission: options.Submission = False,
    format: options.Format = "table",
    show_list: options.ShowList = False,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Score answers as the official script does, with uncertainty, slices and a page to look at.

    The table goes to stdout; scores.json, scores.jsonl and report.html go to --out.
    """
    if show_list:
        _print_list(as_json)
        return
    if answers is None or not benchmark:
        raise UsageError(
            "benchmark", "is missing: give an answers file and `benchmark` NAME; `mgtool eval --list` shows the names"
        )
    job = Job(
        answers, benchmark, tuple(ground_truth or ()), questions, split, out, variant, only_answered,
        compare, tuple(slices or ()), images, boxes, judge, judge_url, judge_workers,
    )  # fmt: skip
    if dry_run:
        _say_what_would_be_done(job, as_json)
    elif explain_variants:
        _explain_variants(job, as_json)
    else:
        failed, total = _evaluate(job, format, submission=submission, overwrite=overwrite, as_json=as_json, quiet=quiet)
        raise typer.Exit(exit_code(failed, total, allow_failures))


def _evaluate(
    job: Job, format: str, *, submission: bool, overwrite: bool, as_json: bool, quiet: bool
) -> tuple[int, int]:
    """Score, write, show; gives the numbers of unreadable and of all answers."""
    from mgtool.evaluation import output
    from mgtool.report import tables

    tables.form(format)
    if submission and job.out is None:
        raise UsageError("submission", "needs `out` DIR")
    answers, _ = job.read_answers(job.answers), job.items
    run = None
    if job.out is not None:
        run = job.run(job.out)
        run.begin(overwrite=overwrite)
    evaluation = _sliced(job, _scored(job, answers))
    comparison = _compared(job, evaluation) if job.compare else None
    if job.out is not None and run is not None:
        output.save(job.out, evaluation, comparison)
        _write_report(job, evaluation, comparison)
        if submission:
            _write_submission(job, evaluation)
        run.finish(_as_dict(evaluation.result.counts))
    _show(job, evaluation, comparison, format, as_json=as_json, quiet=quiet)
    if job.out is not None:
        console.show_failures(len(evaluation.failures), job.out, quiet=quiet)
    return len(evaluation.failures), len(answers.predictions) + len(evaluation.failures)


def _scored(job: Job, answers: Answers) -> Evaluation:
    from mgtool.stages import evaluate as stage

    with _judge(job) as judge:
        return stage.evaluate(
            job.bench, job.items, answers, variant=job.variant, only_answered=job.only_answered, judge=judge
        )


@contextlib.contextmanager
def _judge(job: Job) -> Iterator[KeptJudge | None]:
    try:
        yield job.asked
    finally:
        if job.asked is not None:
            job.asked.journal.close()


def _sliced(job: Job, evaluation: Evaluation) -> Evaluation:
    import dataclasses

    import msgspec

    from mgtool.evaluation.slices import sliced

    slices = sliced(evaluation.scores, job.slices, job.box_records or None)
    return dataclasses.replace(evaluation, result=msgspec.structs.replace(evaluation.result, slices=slices))


def _compared(job: Job, evaluation: Evaluation) -> Comparison:
    """This run against the one of --compare, which comes first."""
    from mgtool.evaluation import comparison as paired
    from mgtool.evaluation import pipeline

    other = _scored(job, job.read_answers(job.compare))
    first, second = pipeline.common(other.scores, evaluation.scores)
    numbers = job.bench.metrics(first, job.variant), job.bench.metrics(second, job.variant)
    return paired.compare(first, second, numbers, job.bench.breakdowns)


def _write_report(job: Job, evaluation: Evaluation, comparison: Comparison | None) -> None:
    from mgtool.files import atomic
    from mgtool.report import scores_page

    assert job.out is not None
    result = evaluation.result
    html = scores_page.render(
        scores_page.Page(
            title=job.bench.title,
            name=result.name,
            subtitle=f"{result.counts.expected:,} items, {Path(job.answers).name}",
            headline=job.bench.headline,
            metrics=result.metrics,
            breakdown=result.breakdown,
            slices=result.slices,
            counts=_as_dict(result.counts),
            notes=result.notes,
            scores=evaluation.scores,
            boxes=job.box_records,
            comparison=comparison,
            read=picture_reader(job),
        )
    )
    atomic.write_bytes(job.out / "report.html", html)


def _write_submission(job: Job, evaluation: Evaluation) -> None:
    from mgtool.files import atomic

    assert job.out is not None
    file = job.bench.submission(evaluation.pairs, job.split)
    if file is None:
        raise UsageError("submission", f": {job.bench.name} has no test server")
    atomic.write_bytes(job.out / file.name, file.data)


def _show(
    job: Job, evaluation: Evaluation, comparison: Comparison | None, format: str, *, as_json: bool, quiet: bool
) -> None:
    from mgtool.records import dumps
    from mgtool.report import tables

    if as_json:
        whole = {**_as_dict(evaluation.result), "comparison": comparison, "out": str(job.out) if job.out else None}
        sys.stdout.buffer.write(dumps(whole) + b"\n")
        return
    if quiet:
        return
    result = evaluation.result
    sys.stdout.write(tables.render(tables.HEADER, tables.metric_rows(result.metrics), tables.form(format)))
    for field in job.slices:
        header = (field, *tables.HEADER[1:])
        sys.stdout.write("\n" + tables.render(header, tables.metric_rows(result.slices[field]), tables.form(format)))
    if comparison is not None:
        rows = tables.difference_rows(comparison.metrics)
        sys.stdout.write("\n" + tables.render(tables.COMPARED, rows, tables.form(format)))
        console.say(f"{comparison.fixed:,} items fixed, {comparison.broken:,} broken against {job.compare}")
    console.say(f"{result.name}: " + ", ".join(f"{n:,} {name}" for name, n in _as_dict(result.counts).items() if n))
    _name_some("items without an answer", [s.question_id for s in evaluation.scores if s.status != "answered"])
    _name_some("ids that the benchmark does not have", evaluation.unknown)
    for note in result.notes:
        console.say(f"note: {note}")
    if job.out is not None:
        console.say(f"report: {job.out / 'report.html'}")


def _name_some(what: str, ids: Sequence[SampleId]) -> None:
    if ids:
        more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
        console.say(f"{what}: {', '.join(map(str, ids[:_NAMED]))}{more}")


def _explain_variants(job: Job, as_json: bool) -> None:
    """The items whose score is not the same in every variant."""
    from mgtool.evaluation import pipeline
    from mgtool.records import dumps
    from mgtool.report import tables

    answers = job.read_answers(job.answers)
    with _judge(job) as judge:
        differing = pipeline.explain_variants(job.bench, job.items, answers, judge)
    if as_json:
        sys.stdout.buffer.write(dumps({"variants": job.bench.variants, "items": differing}) + b"\n")
        return
    rows = [
        (str(item["question_id"]), *(f"{score:g}" for score in item["scores"].values()), str(item["prediction"])[:60])
        for item in differing
    ]
    sys.stdout.write(tables.render(("item", *job.bench.variants, "answer"), rows, "table"))
    console.say(f"{len(differing):,} of {len(job.items):,} items are scored differently")


def _say_what_would_be_done(job: Job, as_json: bool) -> None:
    from mgtool.evaluation import judge_models, pipeline

    answers = job.read_answers(job.answers)
    plan = {
        "benchmark": job.bench.name,
        "variant": job.variant,
        "items": len(job.items),
        "answers": len(answers.predictions),
        "unreadable": sum(failure.stage == "eval" for failure in answers.failures),
        "out": str(job.out) if job.out else "stdout only",
    }
    if job.judge:
        counting = judge_models.CountingJudge()
        pairs = pipeline.join(job.bench, job.items, answers).pairs
        job.bench.grade(pairs, job.variant, counting)
        plan |= {"judge": job.judge, "requests": counting.requests, "prompt_tokens_about": counting.tokens}
    console.summarize(plan, title="eval would score", as_json=as_json, quiet=False)


def _print_list(as_json: bool) -> None:
    from mgtool.benchmarks import TABLE
    from mgtool.records import dumps

    if as_json:
        sys.stdout.buffer.write(dumps([_about_benchmark(bench) for bench in TABLE.values()]) + b"\n")
        return
    for bench in TABLE.values():
        about = _about_benchmark(bench)
        sys.stdout.write(f"{bench.name}  {bench.title}\n")
        for key in ("metric", "files", "prompt", "judge", "variants"):
            sys.stdout.write(f"    {key:9}{about[key]}\n")


def _about_benchmark(bench: Benchmark) -> dict[str, str]:
    from mgtool.records import Sample, Turn

    asked = bench.prompt(Sample(id=0, turns=(Turn("human", "{question}"),))) if bench.takes != "boxes" else "none"
    return {
        "name": bench.name,
        "title": bench.title,
        "metric": bench.metric,
        "files": bench.files,
        "prompt": asked.replace("\n", "\\n"),
        "judge": bench.judge,
        "variants": ", ".join(bench.variants),
    }


def _as_dict(record: Any) -> Mapping[str, Any]:
    import msgspec

    return msgspec.structs.asdict(record)
