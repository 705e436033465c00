"""What one evaluation is asked for."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from mgtool.errors import UsageError
from mgtool.files.remote import check_patterns

Scorer = Literal["hotcoco", "pycocotools"]


@dataclass(frozen=True)
class EvalOptions:
    """What one evaluation is asked for; it reads nothing itself.

    Attributes:
        benchmark: its name in `benchmarks.TABLE`.
        ground_truth: official files, or folders that hold them.
        questions: the question file, where the official set has it apart.
        split: the one split that the answers belong to; empty for all.
        metric: names of metrics with commas between, for a benchmark that has a choice: ``exact,anls``.
        by: fields of the ground truth to break these metrics down by.
        variant: one of the benchmark's ways to score.
        scorer: ``hotcoco`` or ``pycocotools``, which computes COCO's average precision; the numbers are equal.
        only_answered: leave items without an answer out instead of counting them as wrong.
        samples: what is made of several answers to a question: ``mean``, ``vote`` or ``pass@K``.
        trust_ids: score answers by their ids alone, also where they are about other pictures or questions.
        compare: the answers of another run, which comes first in the differences; empty for none.
        slices: fields of the items to slice by, beside the answers' length and the boxes.
        images: folder of pictures for the report.
        full_pictures: copy the pictures beside the report, which else links into `images`.
        allow_absolute: whether a record may name absolute paths of pictures and videos.
        allow_remote: which plain URLs a record may name: each ``SCHEME[:HOST-PATTERN]`` of https, s3, gs or hf.
        boxes: boxes to draw and to slice by, in any of the box formats.
        judge: ``openai:MODEL`` or ``hf:PATH``, for benchmarks that need or can use a judge.
        judge_url: base URL of the judge's endpoint.
        judge_workers: questions to the judge at a time.
        judge_rate: questions to the judge a minute, at most; 0 for no limit.
        judge_price: US dollars for a million tokens read and written, ``2.50/10``; empty where nothing is paid.
        judge_budget: what may be spent on a run's questions: ``200k`` tokens, or ``5usd``; empty for no limit.
        submission: write the file for the test server, too.

    Raises:
        UsageError: for a number of workers below 1, a wrong rate, an unknown rule for samples, or an unknown form of
            `allow_remote`.
    """

    benchmark: str = ""
    _: KW_ONLY
    ground_truth: list[Path] | None = None
    questions: Path | None = None
    split: str = ""
    metric: str = ""
    by: list[str] | None = None
    variant: str = "official"
    scorer: Scorer = "hotcoco"
    only_answered: bool = False
    samples: str = "mean"
    trust_ids: bool = False
    compare: str = ""
    slices: list[str] | None = None
    images: str | None = None
    full_pictures: bool = False
    allow_absolute: bool = False
    allow_remote: list[str] | None = None
    boxes: Path | None = None
    judge: str = ""
    judge_url: str = "https://api.openai.com/v1"
    judge_workers: int = 8
    judge_rate: float = 0.0
    judge_price: str = ""
    judge_budget: str = ""
    submission: bool = False

    def __post_init__(self) -> None:
        if self.judge_workers < 1:
            raise UsageError("judge_workers", f"{self.judge_workers}: give 1 or more")
        if not 0 <= self.judge_rate < float("inf"):
            raise UsageError("judge_rate", f"{self.judge_rate}: give a number of questions a minute, or 0")
        if not re.fullmatch(r"mean|vote|pass@[1-9]\d*", self.samples):
            raise UsageError("samples", f"{self.samples}: there are mean, vote and pass@K")
        check_patterns(self.allow_remote)
