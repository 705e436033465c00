"""`mgtool eval`: official scores of an answers file, with their uncertainty, and a page to look at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from mgtool.commands import console
from mgtool.commands.options import AllowFailures, Command, Config, DryRun, Json, Overwrite, Quiet, exit_code

from mgtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mgtool.benchmarks import Benchmark, Item
    from mgtool.benchmarks.files import Truth
    from mgtool.benchmarks.paired import Comparison
    from mgtool.benchmarks.predictions import Answers
    from mgtool.judges import KeptJudge
    from mgtool.records import BoxRecord
    from mgtool.stages.evaluate import Evaluation

Strings = list[str]
Paths = list[Path]
ANSWERS = "Answers file (`-` is stdin), or the box folder for detection benchmarks."


@dataclass(frozen=True)
class Job:
    """One evaluation as it was asked for; what it reads is read once, when it is needed."""

    answers: str
    benchmark: str
    ground_truth: tuple[Path, ...]
    questions: Path | None
    split: str
    out: Path | None
    variant: str
    only_answered: bool
    compare: str
    slices: tuple[str, ...]
    images: str | None
    boxes: Path | None
    judge: str
    judge_url: str
    judge_workers: int

    @cached_property
    def bench(self) -> Benchmark:
        """The benchmark, once its variant is known to exist."""
        from mgtool import benchmarks

        bench = benchmarks.get(self.benchmark)
        if self.variant not in bench.variants:
            raise UsageError(f"--variant {self.variant}: {bench.name} has {', '.join(bench.variants)}")
        return bench

    @cached_property
    def truth(self) -> Truth:
        """The official files."""
        from mgtool.benchmarks.files import Truth

        if not self.ground_truth:
            raise UsageError(f"--ground-truth is missing: {self.bench.files}")
        return Truth(self.ground_truth, self.questions, self.split)

    @cached_property
    def items(self) -> list[Item]:
        """Questions and targets."""
        return self.bench.load(self.truth)

    @cached_property
    def box_records(self) -> dict[str, BoxRecord]:
        """Boxes by picture name, for the report and the slices."""
        source = self.boxes or (Path(self.answers) if self.bench.takes == "boxes" else None)
        return {record.image: record for record in _box_records(source)} if source is not None else {}

    @cached_property
    def asked(self) -> KeptJudge | None:
        """The judge, with the replies that the output already holds."""
        from mgtool import judges, shards

        if not self.judge:
            return None
        if self.out is None:
            raise UsageError("--judge needs --out DIR, where its replies are kept")
        model = judges.backend(self.judge, url=self.judge_url, workers=self.judge_workers)
        return judges.KeptJudge(model, shards.Journal(self.out / "judge.jsonl"))

    def read_answers(self, source: str) -> Answers:
        """The answers (or boxes) of one run, with the failures that it recorded."""
        from mgtool.benchmarks import predictions

        if self.bench.takes == "boxes":
            return predictions.from_boxes(_box_records(Path(source)))
        if source == "-":
            return predictions.read(sys.stdin.buffer.read(), where="-")
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{source}: no such answers file")
        answers = predictions.read(path.read_bytes(), where=source)
        return answers._replace(failures=[*answers.failures, *predictions.read_failures(path)])

    def identity(self) -> dict[str, Any]:
        """What makes this run the one it is."""
        inputs = [*self.ground_truth, *([self.questions] if self.questions else [])]
        return {
            "benchmark": self.benchmark,
            "variant": self.variant,
            "only_answered": self.only_answered,
            "judge": self.judge or None,
            "split": self.split,
            "answers": _fingerprint(Path(self.answers)) if self.answers != "-" else "stdin",
            "compare": _fingerprint(Path(self.compare)) if self.compare else None,
            "ground_truth": [_fingerprint(path) for path in inputs],
        }


class EvalCommand(Command):
    """Lets one `--ground-truth` take several paths; the last may be the answers file."""

    def parse_args(self, context: typer.Context, args: list[str]) -> list[str]:
        """Give each path its own `--ground-truth`, as click understands it."""
        spread, last = _spread(args)
        given = [arg for arg in spread if arg in ("--list", "--help", "-h")]
        if last is None or given or not _lacks_answers(self, context, spread):
            return super().parse_args(context, spread)
        return super().parse_args(context, [*spread[: last - 1], *spread[last:]])


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
    answers: Annotated[str | None, typer.Argument(help=ANSWERS)] = None,
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark; see --list.", metavar="NAME")] = "",
    ground_truth: Annotated[
        Paths | None, typer.Option(help="Official files, or the folder that holds them.", metavar="PATH...")
    ] = None,
    questions: Annotated[Path | None, typer.Option(help="Question file, where it is apart.", metavar="PATH")] = None,
    split: Annotated[str, typer.Option(help="The one split that the answers belong to.", metavar="NAME")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for scores and report.", metavar="DIR")] = None,
    variant: Annotated[str, typer.Option(help="Way to score: official, mg-llava, ...", metavar="NAME")] = "official",
    explain_variants: Annotated[
        bool, typer.Option("--explain-variants", help="List the items whose score depends on the variant.")
    ] = False,
    only_answered: Annotated[
        bool, typer.Option("--only-answered", help="Leave items without an answer out; the result's name says so.")
    ] = False,
    compare: Annotated[
        str, typer.Option(help="A second run: paired differences, and the items that flipped.", metavar="ANSWERS")
    ] = "",
    slices: Annotated[
        Strings | None, typer.Option("--slice", help="Slice by this field of the items, too.", metavar="FIELD")
    ] = None,
    images: Annotated[str | None, typer.Option(help="Folder of pictures for the report.", metavar="DIR")] = None,
    boxes: Annotated[Path | None, typer.Option(help="Boxes to draw and to slice by.", metavar="PATH")] = None,
    judge: Annotated[
        str, typer.Option(help="openai:MODEL or hf:PATH, for the benchmarks that need a judge.", metavar="SPEC")
    ] = "",
    judge_url: Annotated[
        str, typer.Option(help="The judge's endpoint; its key is in OPENAI_API_KEY.", metavar="URL")
    ] = "https://api.openai.com/v1",
    judge_workers: Annotated[int, typer.Option(help="Questions to the judge at a time.", min=1)] = 8,
    submission: Annotated[
        bool, typer.Option("--submission", help="Write the file for the test server to --out.")
    ] = False,
    format: Annotated[str, typer.Option(help="Table: table, markdown or latex.", metavar="FORM")] = "table",
    show_list: Annotated[bool, typer.Option("--list", help="List the benchmarks and the files they need.")] = False,
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
        raise UsageError("give an answers file and --benchmark NAME; `mgtool eval --list` shows the names")
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
    from mgtool import shards
    from mgtool.stages import evaluate as stage

    run = None
    if job.out is not None:
        run = shards.Run(job.out / shards.RUN_FILE, command="eval", identity=job.identity(), about=_about(job))
        run.begin(overwrite=overwrite)
    answers = job.read_answers(job.answers)
    evaluation = _scored(job, answers)
    comparison = _compared(job, evaluation) if job.compare else None
    if job.out is not None and run is not None:
        stage.save(job.out, evaluation, comparison)
        _write_report(job, evaluation, comparison)
        if submission:
            _write_submission(job, evaluation)
        run.finish(counts=evaluation.result.counts)
    _show(job, evaluation, comparison, format, as_json=as_json, quiet=quiet)
    return len(evaluation.failures), len(answers.predictions) + len(evaluation.failures)


def _scored(job: Job, answers: Answers) -> Evaluation:
    from mgtool.stages import evaluate as stage

    try:
        return stage.evaluate(
            job.bench,
            job.items,
            answers,
            variant=job.variant,
            only_answered=job.only_answered,
            judge=job.asked,
        )
    finally:
        if job.asked is not None:
            job.asked.journal.close()


def _compared(job: Job, evaluation: Evaluation) -> Comparison:
    """This run against the one of --compare, which comes first."""
    from mgtool.benchmarks import paired
    from mgtool.stages import evaluate as stage

    other = _scored(job, job.read_answers(job.compare))
    first, second = stage.common(other.scores, evaluation.scores)
    numbers = job.bench.metrics(first, job.variant), job.bench.metrics(second, job.variant)
    return paired.compare(first, second, numbers, job.bench.breakdowns)


def _write_report(job: Job, evaluation: Evaluation, comparison: Comparison | None) -> None:
    from mgtool import shards
    from mgtool.benchmarks.slices import sliced
    from mgtool.report import page

    assert job.out is not None
    result = evaluation.result
    html = page.render(
        page.Page(
            title=job.bench.title,
            name=result.name,
            subtitle=f"{result.counts.expected:,} items, {Path(job.answers).name}",
            headline=job.bench.headline,
            metrics=result.metrics,
            breakdown=result.breakdown,
            slices=sliced(evaluation.scores, job.slices, job.box_records or None),
            counts=_as_dict(result.counts),
            notes=result.notes,
            scores=evaluation.scores,
            boxes=job.box_records,
            comparison=comparison,
            read=_picture_reader(job),
        )
    )
    shards.write_bytes(job.out / "report.html", html)


def _write_submission(job: Job, evaluation: Evaluation) -> None:
    from mgtool import shards

    assert job.out is not None
    file = job.bench.submission(evaluation.pairs, job.split)
    if file is None:
        raise UsageError(f"--submission: {job.bench.name} has no test server")
    shards.write_bytes(job.out / file.name, file.data)


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
    if comparison is not None:
        rows = tables.difference_rows(comparison.metrics)
        sys.stdout.write("\n" + tables.render(tables.COMPARED, rows, tables.form(format)))
        console.say(f"{comparison.fixed:,} items fixed, {comparison.broken:,} broken against {job.compare}")
    console.say(f"{result.name}: " + ", ".join(f"{n:,} {name}" for name, n in _as_dict(result.counts).items() if n))
    if evaluation.unknown:
        console.say(f"ids that the benchmark does not have: {', '.join(map(str, evaluation.unknown[:5]))}")
    for note in result.notes:
        console.say(f"note: {note}")
    if job.out is not None:
        console.say(f"report: {job.out / 'report.html'}")


def _explain_variants(job: Job, as_json: bool) -> None:
    """The items whose score is not the same in every variant."""
    from mgtool.records import dumps
    from mgtool.report import tables
    from mgtool.stages import evaluate as stage

    answers = job.read_answers(job.answers)
    differing = stage.explain_variants(job.bench, job.items, answers)
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
    from mgtool import judges
    from mgtool.stages import evaluate as stage

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
        counting = judges.CountingJudge()
        pairs = stage.join(job.bench, job.items, answers).pairs
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

    asked = bench.prompt(Sample(id=0, turns=(Turn("human", "{question}"),))) if bench.takes == "answers" else "none"
    return {
        "name": bench.name,
        "title": bench.title,
        "metric": bench.metric,
        "files": bench.files,
        "prompt": asked.replace("\n", "\\n"),
        "judge": "needed" if bench.judge else "no",
        "variants": ", ".join(bench.variants),
    }


def _about(job: Job) -> dict[str, Any]:
    import importlib.metadata

    return {"mgtool": importlib.metadata.version("mgtool"), "answers": job.answers}


def _box_records(path: Path) -> Sequence[BoxRecord]:
    from mgtool import boxfiles

    return list(boxfiles.read(path))


def _picture_reader(job: Job) -> Any:
    """A function from a picture's name to its bytes, or None."""
    from mgtool import sources
    from mgtool.errors import ItemError

    place = sources.Place(job.images)

    def read(name: str) -> bytes | None:
        if job.images is None:
            return None
        try:
            return sources.read_bytes(place.media(name))
        except ItemError:
            return None

    return read


def _fingerprint(path: Path) -> str:
    """Name and content of a file; of a folder the names, sizes and times of its files."""
    import hashlib

    if path.is_file():
        with path.open("rb") as file:
            return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    listing = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(path.iterdir()) if f.is_file()]
    return f"{path.name} {hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}"


def _as_dict(record: Any) -> Mapping[str, Any]:
    import msgspec

    return msgspec.structs.asdict(record)
