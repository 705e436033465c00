"""The options of `mgtool eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Variant = Annotated[str, typer.Option(help="Way to score: official, mg-llava, ...", metavar="NAME")]
ExplainVariants = Annotated[
    bool, typer.Option("--explain-variants", help="List the items whose score depends on the variant.")
]
OnlyAnswered = Annotated[
    bool, typer.Option("--only-answered", help="Leave items without an answer out; the result's name says so.")
]
Compare = Annotated[
    str, typer.Option(help="A second run: paired differences, and the items that flipped.", metavar="ANSWERS")
]
Slices = Annotated[
    list[str] | None, typer.Option("--slice", help="Slice by this field of the items, too.", metavar="FIELD")
]
Images = Annotated[str | None, typer.Option(help="Folder of pictures for the report.", metavar="DIR")]
Boxes = Annotated[Path | None, typer.Option(help="Boxes to draw and to slice by.", metavar="PATH")]
JudgeModel = Annotated[
    str, typer.Option(help="openai:MODEL or hf:PATH, for the benchmarks that need or can use a judge.", metavar="SPEC")
]
JudgeUrl = Annotated[str, typer.Option(help="The judge's endpoint; its key is in OPENAI_API_KEY.", metavar="URL")]
JudgeWorkers = Annotated[int, typer.Option(help="Questions to the judge at a time.", min=1)]
Submission = Annotated[bool, typer.Option("--submission", help="Write the file for the test server to --out.")]
Format = Annotated[str, typer.Option(help="Table: table, markdown or latex.", metavar="FORM")]
ShowList = Annotated[bool, typer.Option("--list", help="List the benchmarks and the files they need.")]
