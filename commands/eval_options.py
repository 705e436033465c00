"""The options of `mgtool eval`, and how one `--ground-truth` takes several paths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mgtool.commands.options import Command
from mgtool.evaluation.options import Scorer

Answers = Annotated[
    str | None, typer.Argument(help="Answers file (`-` is stdin), or the box folder for detection benchmarks.")
]
BenchmarkName = Annotated[str, typer.Option(help="Name of the benchmark; see --list.", metavar="NAME")]
GroundTruth = Annotated[
    list[Path] | None, typer.Option(help="Official files, or the folder that holds them.", metavar="PATH...")
]
Questions = Annotated[Path | None, typer.Option(help="Question file, where it is apart.", metavar="PATH")]
Split = Annotated[str, typer.Option(help="The one split that the answers belong to.", metavar="NAME")]
Out = Annotated[Path | None, typer.Option(help="Folder for scores and report.", metavar="DIR")]
MetricNames = Annotated[
    str, typer.Option("--metric", help="Metrics of your own data: exact,vqa,anls,relaxed,...", metavar="NAME,...")
]
By = Annotated[list[str] | None, typer.Option("--by", help="Break your own data down by this field.", metavar="FIELD")]
ScorerOption = Annotated[
    Scorer, typer.Option("--scorer", help="What computes COCO's average precision; the numbers are equal.")
]
Variant = Annotated[str, typer.Option(help="Way to score: official, mg-llava, ...", metavar="NAME")]
ExplainVariants = Annotated[
    bool, typer.Option("--explain-variants", help="List the items whose score depends on the variant.")
]
OnlyAnswered = Annotated[
    bool, typer.Option("--only-answered", help="Leave items without an answer out; the result's name says so.")
]
Samples = Annotated[
    str, typer.Option(help="What to make of several answers to a question: mean, vote or pass@K.", metavar="RULE")
]
TrustIds = Annotated[
    bool, typer.Option("--trust-ids", help="Score by ids alone, also answers about other pictures or questions.")
]
Compare = Annotated[
    str, typer.Option(help="A second run: paired differences, and the items that flipped.", metavar="ANSWERS")
]
Slices = Annotated[
    list[str] | None, typer.Option("--slice", help="Slice by this field of the items, too.", metavar="FIELD")
]
Images = Annotated[str | None, typer.Option(help="Folder of pictures for the report.", metavar="DIR")]
FullPictures = Annotated[
    bool, typer.Option("--full-pictures", help="Copy the pictures beside the report, which else links into --images.")
]
Boxes = Annotated[Path | None, typer.Option(help="Boxes to draw and to slice by.", metavar="PATH")]
JudgeModel = Annotated[
    str, typer.Option(help="openai:MODEL or hf:PATH, for the benchmarks that need or can use a judge.", metavar="SPEC")
]
JudgeUrl = Annotated[str, typer.Option(help="The judge's endpoint; its key is in OPENAI_API_KEY.", metavar="URL")]
JudgeWorkers = Annotated[int, typer.Option(help="Questions to the judge at a time.", min=1)]
JudgeRate = Annotated[float, typer.Option(help="Questions to the judge a minute, at most; 0 is no limit.", min=0)]
JudgePrice = Annotated[
    str, typer.Option(help="US dollars for a million tokens read/written, such as 2.50/10.", metavar="IN/OUT")
]
JudgeBudget = Annotated[
    str, typer.Option(help="What may be spent: 200k tokens, or 5usd; a later run goes on.", metavar="AMOUNT")
]
Submission = Annotated[bool, typer.Option("--submission", help="Write the file for the test server to --out.")]
Format = Annotated[str, typer.Option(help="Table: table, markdown or latex.", metavar="FORM")]
ShowList = Annotated[bool, typer.Option("--list", help="List the benchmarks and the files they need.")]

ShowVariants = Annotated[bool, typer.Option("--variants", help="With --list: what tells each way to score apart.")]


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
