"""What `mgtool eval` shows: scores, lists, what would be done, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console, summaries
from mgtool.commands.exit_codes import exit_code
from mgtool.evaluation.options import EvalOptions

if TYPE_CHECKING:
    from pathlib import Path

    from mgtool.records import SampleId
    from mgtool.stages.evaluate import Evaluation

_NAMED = 5


def finish(evaluation: Evaluation, out: Path | None, allow_failures: str, *, quiet: bool) -> None:
    """Say what failed, and end with the exit code for it."""
    failed, lost = len(evaluation.failures), evaluation.lost
    if out is not None:
        summaries.show_failures(failed, out, quiet=quiet)
    if lost and not quiet:
        way_out = f"leave them out with --only-answered, or allow them with --allow-failures {lost}"
        console.say(f"unanswered: {lost:,} of {evaluation.needed:,} items, more than a tenth: {way_out}")
    raise typer.Exit(exit_code(failed + lost, max(evaluation.answers + failed, evaluation.needed), allow_failures))


def print_line(value: object) -> None:
    from mgtool.records import dumps

    sys.stdout.buffer.write(dumps(value) + b"\n")


def last(evaluation: Evaluation, out: Path | None) -> dict[str, Any]:
    """Where the results lie, and how long they took."""
    from mgtool.evaluation.output import PAGE_FILE

    report = {"report": str(out / PAGE_FILE)} if out else {}
    return {"out": str(out) if out else None, **report, **summaries.took(evaluation.answers)}


def show(evaluation: Evaluation, asked: EvalOptions, out: Path | None, format: str) -> None:
    import msgspec

    from mgtool.evaluation.output import PAGE_FILE

    result, counts = evaluation.result, msgspec.structs.asdict(evaluation.counts)
    show_tables(evaluation, asked, format)
    console.say(f"{result.name}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items() if n))
    name_some("items without an answer", [s.question_id for s in evaluation.scores if s.status != "answered"])
    name_some("ids that the benchmark does not have", evaluation.unknown)
    if result.judge is not None:
        console.say(result.judge.line)
    for note in result.notes:
        console.say(f"note: {note}")
    taken = summaries.took(evaluation.answers)
    rate = taken["per_second"]
    console.say(f"took {taken['seconds']:,.1f} s, {f'{rate:,.0f}' if rate >= 10 else f'{rate:.2g}'} answers/s")
    if out is not None:
        console.say(f"report: {out / PAGE_FILE}")


def show_tables(evaluation: Evaluation, asked: EvalOptions, format: str) -> None:
    from mgtool.report import tables

    form, result, comparison = tables.form(format), evaluation.result, evaluation.comparison
    sys.stdout.write(tables.render(tables.HEADER, tables.metric_rows(result.metrics), form))
    sys.stdout.write(tables.caption(result.caption, form))
    for field in asked.slices or ():
        header = (field, *tables.HEADER[1:])
        sys.stdout.write("\n" + tables.render(header, tables.metric_rows(result.slices[field]), form))
    if comparison is not None:
        rows = tables.difference_rows(comparison.metrics)
        sys.stdout.write("\n" + tables.render(tables.COMPARED, rows, form))
        console.say(f"first: {comparison.first_run.line}")
        console.say(f"second: {comparison.second_run.line}")
        console.say(f"items fixed: {comparison.fixed:,}, broken: {comparison.broken:,}, against {asked.compare}")
        console.say("n needed: items of this kind that it takes to see such a difference (5 %, with a power of 80 %)")


def name_some(what: str, ids: Sequence[SampleId]) -> None:
    if ids:
        more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
        console.say(f"{what}: {', '.join(map(str, ids[:_NAMED]))}{more}")


def explain_variants(answers: str, asked: EvalOptions, out: Path | None, as_json: bool, *, wait: bool) -> None:
    """The items whose score is not the same in every variant."""
    from mgtool.report import tables
    from mgtool.stages import evaluate as stage

    found = stage.explain_variants(answers, asked, out, wait=wait)
    if as_json:
        print_line({"variants": found.variants, "items": found.items})
        return
    rows = [
        (str(item.question_id), *(f"{score:g}" for score in item.scores.values()), item.prediction[:60])
        for item in found.items
    ]
    sys.stdout.write(tables.render(("item", *found.variants, "answer"), rows, "table"))
    console.say(f"{len(found.items):,} of {found.expected:,} items are scored differently")


def say_what_would_be_done(answers: str, asked: EvalOptions, out: Path | None, as_json: bool) -> None:
    from mgtool.stages import evaluate as stage

    plan = stage.plan(answers, asked)
    names = ("benchmark", "variant", "items", "answers", "unreadable")
    summary = {name: getattr(plan, name) for name in names} | {"out": str(out) if out else "stdout only"}
    if asked.judge:
        summary |= {"judge": asked.judge, "requests": plan.requests, "prompt_tokens_about": plan.prompt_tokens}
    summaries.summarize(summary, title="eval would score", as_json=as_json, quiet=False)


def print_list(as_json: bool) -> None:
    from mgtool.benchmarks import TABLE

    if as_json:
        print_line([bench.about() for bench in TABLE.values()])
        return
    for bench in TABLE.values():
        about = bench.about()
        sys.stdout.write(f"{bench.name}  {bench.title}\n")
        for key in ("metric", "files", "prompt", "judge", "variants"):
            sys.stdout.write(f"    {key:9}{in_a_line(about[key])}\n")


def print_variants(name: str, as_json: bool) -> None:
    """What each variant of a benchmark does, or of all of them; beside it, the options of a run that takes it."""
    from mgtool.benchmarks import TABLE, get

    benches = [get(name)] if name else list(TABLE.values())
    if as_json:
        print_line([way for bench in benches for way in bench.ways()])
        return
    for bench in benches:
        sys.stdout.write(f"{bench.name}\n")
        for way in bench.ways():
            sys.stdout.write(f"    {way['variant']:11}{way['does']}\n")


def in_a_line(value: Any) -> str:
    """An entry of the list, for people."""
    text = ", ".join(value) if isinstance(value, list) else value or "none"
    return text.replace("\n", "\\n")
