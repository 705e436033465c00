"""`mgtool eval`: official scores of an answers file, with their uncertainty, and a page to look at."""

from __future__ import annotations

from mgtool.commands import console, eval_screen
from mgtool.commands import eval_options as options
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    Config,
    DryRun,
    Json,
    Overwrite,
    Quiet,
    Tmp,
    Wait,
)
from mgtool.errors import UsageError
from mgtool.evaluation.options import EvalOptions

COMMAND = options.EvalCommand


def evaluate(
    answers: options.Answers = None,
    benchmark: options.BenchmarkName = EvalOptions.benchmark,
    ground_truth: options.GroundTruth = EvalOptions.ground_truth,
    questions: options.Questions = EvalOptions.questions,
    split: options.Split = EvalOptions.split,
    out: options.Out = None,
    metric: options.MetricNames = EvalOptions.metric,
    by: options.By = EvalOptions.by,
    variant: options.Variant = EvalOptions.variant,
    explain_variants: options.ExplainVariants = False,
    scorer: options.ScorerOption = EvalOptions.scorer,
    only_answered: options.OnlyAnswered = EvalOptions.only_answered,
    samples: options.Samples = EvalOptions.samples,
    trust_ids: options.TrustIds = EvalOptions.trust_ids,
    compare: options.Compare = EvalOptions.compare,
    slices: options.Slices = EvalOptions.slices,
    images: options.Images = EvalOptions.images,
    full_pictures: options.FullPictures = EvalOptions.full_pictures,
    allow_absolute: AllowAbsolute = EvalOptions.allow_absolute,
    allow_remote: AllowRemote = EvalOptions.allow_remote,
    boxes: options.Boxes = EvalOptions.boxes,
    judge: options.JudgeModel = EvalOptions.judge,
    judge_url: options.JudgeUrl = EvalOptions.judge_url,
    judge_workers: options.JudgeWorkers = EvalOptions.judge_workers,
    judge_rate: options.JudgeRate = EvalOptions.judge_rate,
    judge_price: options.JudgePrice = EvalOptions.judge_price,
    judge_budget: options.JudgeBudget = EvalOptions.judge_budget,
    submission: options.Submission = EvalOptions.submission,
    format: options.Format = "table",
    show_list: options.ShowList = False,
    show_variants: options.ShowVariants = False,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    tmp: Tmp = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Score answers as the official script does, with uncertainty, slices and a page to look at.

    The table goes to stdout; scores.json, scores.jsonl and report.html go to --out.
    """
    if show_list or show_variants:
        eval_screen.print_variants(benchmark, as_json) if show_variants else eval_screen.print_list(as_json)
        return
    if answers is None or not benchmark:
        raise UsageError(
            "benchmark", "is missing: give an answers file and `benchmark` NAME; `mgtool eval --list` shows the names"
        )
    asked = EvalOptions(
        benchmark, ground_truth=ground_truth, questions=questions, split=split, metric=metric, by=by, variant=variant,
        scorer=scorer, only_answered=only_answered, samples=samples, trust_ids=trust_ids,
        compare=compare, slices=slices,
        images=images, full_pictures=full_pictures, allow_absolute=allow_absolute, allow_remote=allow_remote,
        boxes=boxes, judge=judge, judge_url=judge_url, judge_workers=judge_workers, judge_rate=judge_rate,
        judge_price=judge_price, judge_budget=judge_budget, submission=submission,
    )  # fmt: skip
    if dry_run:
        eval_screen.say_what_would_be_done(answers, asked, out, as_json)
    elif explain_variants:
        eval_screen.explain_variants(answers, asked, out, as_json, wait=wait)
    else:
        import msgspec

        from mgtool.report import tables
        from mgtool.stages import evaluate as stage

        tables.form(format)
        with console.progress("replies of the judge" if judge else "", quiet=quiet) as advance:
            evaluation = stage.evaluate(answers, asked, out, overwrite=overwrite, wait=wait, advance=advance)
        if as_json:
            whole = msgspec.structs.asdict(evaluation.result)
            eval_screen.print_line({**whole, "comparison": evaluation.comparison, **eval_screen.last(evaluation, out)})
        elif not quiet:
            eval_screen.show(evaluation, asked, out, format)
        eval_screen.finish(evaluation, out, allow_failures, quiet=quiet)
